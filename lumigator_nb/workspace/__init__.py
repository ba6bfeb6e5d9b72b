"""The workspace: one object that gives access to all services. :func:`connect` opens it.

This is the composition root: only here are database, store, cluster and services put together.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lumigator_nb import config, metrics
from lumigator_nb._version import __version__
from lumigator_nb.cluster import Cluster, connect_cluster
from lumigator_nb.config import Settings
from lumigator_nb.database import record_views
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading
from lumigator_nb.database.records import Experiment, Workflow
from lumigator_nb.display.progress import say
from lumigator_nb.errors import ClusterUnavailableError, InvalidInputError
from lumigator_nb.security import redaction
from lumigator_nb.services import sharing
from lumigator_nb.services.access.secrets import Secrets, redactor_of
from lumigator_nb.services.access.tokens import Tokens
from lumigator_nb.services.adaptive import pilot_run, power_study, race
from lumigator_nb.services.adaptive.pilot_run import Question
from lumigator_nb.services.adaptive.power_study import Study
from lumigator_nb.services.adaptive.race import Selection
from lumigator_nb.services.comparison import audit as audits
from lumigator_nb.services.comparison import mlflow
from lumigator_nb.services.comparison.audit import Audit
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.loading import gather
from lumigator_nb.services.datasets.datasets import Datasets
from lumigator_nb.services.elsewhere import compare as outside
from lumigator_nb.services.elsewhere import loading as elsewhere
from lumigator_nb.services.experiments import Experiments
from lumigator_nb.services.judging import pairwise
from lumigator_nb.services.judging.pairwise import Judgements
from lumigator_nb.services.labelling.labels import Labels
from lumigator_nb.services.models import Models
from lumigator_nb.services.runtime import Runtime
from lumigator_nb.services.upkeep import garbage, inspection
from lumigator_nb.services.upkeep.garbage import Garbage
from lumigator_nb.services.upkeep.inspection import Inspection
from lumigator_nb.services.workflows import provenance, reproduction, reservation
from lumigator_nb.services.workflows.annotation import ModelAnnotator
from lumigator_nb.services.workflows.provenance import Provenance
from lumigator_nb.services.workflows.reproduction import Reproduction
from lumigator_nb.services.workflows.single_jobs import Jobs
from lumigator_nb.services.workflows.workflows import Target, Workflows
from lumigator_nb.specs import Launch, MetricSpec, Model, Task
from lumigator_nb.storage.local_files import close_to_others, make_folder
from lumigator_nb.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd


class Workspace:
    """Datasets, experiments and workflows over one database, store and cluster. Made by :func:`connect`.

    Attributes:
        datasets: upload, list, version, split, sample and delete datasets.
        experiments: create, list and delete experiments.
        workflows: launch, wait, stop, resume, logs, cost estimates.
        models: the catalogue of models.
        labels: human ratings of answers: rate blindly, import, read, inter-rater agreement.
        cache: the answer cache: size, trim, clear.
        jobs: Lumigator's single jobs: predictions, ground truth or scores of one dataset.
        secrets: API keys, encrypted in the database.
        tokens: API tokens for the REST API.
        settings, database, store, cluster: what the services work with.
    """

    def __init__(self, settings: Settings, database: Database, store: Store, cluster: Cluster) -> None:
        self.settings = settings
        self.database = database
        self.store = store
        self.cluster = cluster
        self.secrets = Secrets(database, settings)
        # From here on the settings find API keys among the stored secrets, too.
        settings.look_in(self.secrets)
        runtime = Runtime(settings, database, store, cluster)
        self.workflows = Workflows(runtime)
        self.experiments = Experiments(runtime, self.workflows.stop)
        self.datasets = Datasets(runtime, self.workflows.stop, ModelAnnotator(self.experiments, self.workflows))
        self.models = Models(settings)
        self.labels = Labels(database, store, self.datasets, self.workflows)
        self.cache = self.workflows.cache
        self.jobs = Jobs(database, self.datasets, self.experiments, self.workflows)
        self.tokens = Tokens(database, settings)

    def wait(self, target: Target, **options: Any) -> list[Any]:
        """Wait until the workflows of an experiment have finished; see :meth:`Workflows.wait`.

        Examples:
            >>> _ = ws.workflows.launch(experiment, "baseline/lead-2")
            >>> [workflow.status.value for workflow in ws.wait(experiment, progress=False)]
            ['succeeded', 'succeeded', 'succeeded', 'succeeded']
        """
        return list(self.workflows.wait(target, **options))

    def evaluate(
        self, experiment: Experiment | str, metrics: Any = None, *, budget: float | None = None
    ) -> list[Workflow]:
        """Score the existing predictions of an experiment by more metrics. No model is asked again.

        Returns at once; :meth:`wait` waits for the scores. Metrics that failed before are retried.

        Args:
            experiment: record, name or id.
            metrics: as for :meth:`Experiments.create`; None retries those that are missing or failed.
            budget: total budget of each workflow in dollars, including judges; default: unchanged.

        Raises:
            LumigatorError: the errors of :meth:`Experiments.create`.
            ClusterUnavailableError: the cluster does not answer.

        Examples:
            >>> _ = ws.evaluate(experiment, ["chrf"])
            >>> _ = ws.wait(experiment, progress=False)
            >>> [score.name for score in ws.compare(experiment).scores]
            ['rouge1', 'rouge2', 'rougeL', 'rougeLsum', 'words', 'compression', 'chrf']
        """
        record = self.experiments.get(experiment)
        if metrics is not None:
            record = self.experiments.add_metrics(record, metrics)
        return self.workflows.evaluate(record, budget=budget)

    def compare(self, experiment: Experiment | str, **options: Any) -> Comparison:
        """Compare the succeeded workflows of an experiment.

        Args:
            experiment: record, name or id.
            options: `confidence` (default 0.95), `n_resamples` (2000) and `seed` (0) of the bootstrap; `groups`, a
                metadata column that names the cluster of each example (such as its customer) if examples are not
                independent.

        Raises:
            InvalidInputError: none has succeeded yet.

        Examples:
            >>> comparison = ws.compare(experiment, groups="topic")
            >>> comparison.best("rougeL")
            'baseline/copy'
        """
        record = self.experiments.get(experiment)
        dataset = self.datasets.of(record)
        workflows = self.workflows.refresh(record)
        jobs = self.workflows.jobs(workflows)
        examples, ratings = self.datasets.to_pandas(dataset), self.labels.ratings(record)
        return gather(self.store, record, dataset, examples, workflows, jobs, ratings, **options)

    def judge(
        self,
        experiment: Experiment | str,
        judge: MetricSpec,
        *,
        models: Sequence[str] | None = None,
        sample: int | None = None,
        retest: int = 20,
        budget: float | None = None,
        cache: Literal["on", "off", "refresh"] = "on",
        human: pd.DataFrame | None = None,
        progress: bool = True,
        seed: int = 0,
    ) -> Judgements:
        """Have a judge compare models' answers pairwise, example by example. Blocks until it is done.

        The judge sees each pair in both orders; if its two verdicts disagree, the pair counts as a tie. It is asked
        from this process. The answer cache keeps its answers: calling again continues an interrupted run, and a
        repeated run costs nothing.

        Args:
            experiment: record, name or id.
            judge: a :class:`Judge`, or a :class:`Jury`, which decides by majority.
            models: labels of two or more models; default: all that have succeeded. All pairs of them are judged.
            sample: number of examples to judge, drawn at random; default: all that every model answered.
            retest: number of questions to ask twice, to measure how consistent the judge is.
            budget: maximum cost in dollars.
            cache: use of the answer cache, as in :meth:`Workflows.launch`.
            human: human labels to compare the judge with: columns `row` (of the dataset, from 0), `model`,
                `other` (labels), `preference` (1: the model is better, −1: the other, 0: neither).
            progress: show a progress display.
            seed: random seed of the sample and of the bootstrap intervals.

        Raises:
            InvalidInputError: fewer than two models can be compared, or the labels are malformed.
            ConfigurationError: the judge's API key is missing.
            BudgetReachedError: the next question might exceed the budget; what was answered is kept.

        Examples:
            >>> judge = lm.Judge("quality", model)
            >>> two = ["baseline/lead-1", "baseline/copy"]
            >>> judgements = ws.judge(experiment, judge, models=two, sample=5, retest=0, progress=False)
            >>> judgements.to_pandas()["row"].nunique()
            5
        """
        spec = metrics.parse(judge)
        self.workflows.submitter.check_keys(metrics.models_of([spec]))
        return pairwise.judge(
            self.compare(experiment, seed=seed), spec, self.store, self.workflows.submitter,
            models=models, sample=sample, retest=retest, launch=Launch(cache=cache, budget=budget), human=human,
            progress=progress, seed=seed,
        )  # fmt: skip

    def plan(
        self,
        experiment: Experiment | str,
        models: Sequence[str | Model],
        *,
        metric: str | MetricSpec | None = None,
        detect: float = 0.02,
        power: float = 0.8,
        confidence: float = 0.95,
        pilot: int = 30,
        repeats: int = 1,
        example_cost: float = 0.0,
        budget: float | None = None,
        cache: Literal["on", "off", "refresh"] = "on",
        progress: bool = True,
        seed: int = 0,
    ) -> Study:
        """Estimate how many examples it takes to tell models apart, and their cost. Blocks until its pilot is done.

        The answer cache keeps the pilot's answers: neither a race (:meth:`select`) nor a workflow asks for them again.

        Args:
            experiment: record, name or id.
            models: two or more models.
            metric: score to compare by, such as "rougeL", or a metric with one score; default: the main score.
            detect: smallest difference worth detecting, in units of the score.
            power: probability of detecting a difference that exists.
            confidence: confidence level of the comparison.
            pilot: number of examples in the pilot, drawn at random; 20 to 50 are enough.
            repeats: answers of each model to each example of the pilot. With 2 or more the plan says whether to spend
                on examples or on repeats.
            example_cost: what one more example costs before any answer, such as writing its ground truth, in units
                of what one answer of each model to it costs. Repeats pay where it is high.
            budget: maximum cost of the pilot in dollars, for all models and judges together.
            cache: use of the answer cache, as in :meth:`Workflows.launch`.
            progress: show a progress display.
            seed: random seed of the pilot's sample.

        Raises:
            InvalidInputError: a setting is out of range, there are fewer than two models, or one cannot answer.
            ConfigurationError: an API key is missing.
            BudgetReachedError: the next question might exceed the budget; what was answered is kept.

        Examples:
            >>> models = ["baseline/lead-1", "baseline/copy"]
            >>> study = ws.plan(experiment, models, metric="rougeL", detect=0.05, progress=False)
            >>> study.plan.needed
            31
        """
        launch = Launch(cache=cache, budget=budget)
        question = self._question(experiment, models, metric, launch, seed, repeats=repeats)
        return power_study.study(
            question, self.store, self.workflows.submitter, pilot=pilot, repeats=repeats, example_cost=example_cost,
            detect=detect, power=power, confidence=confidence, progress=progress,
        )  # fmt: skip

    def select(
        self,
        experiment: Experiment | str,
        models: Sequence[str | Model],
        *,
        metric: str | MetricSpec | None = None,
        confidence: float = 0.95,
        indifference: float = 0.0,
        budget: float | None = None,
        cache: Literal["on", "off", "refresh"] = "on",
        groups: str | None = None,
        progress: bool = True,
        seed: int = 0,
    ) -> Selection:
        """Race models over the examples and stop as soon as the best is certain. Blocks until the race is over.

        All models answer the same examples in random order. The race drops a model once it is significantly worse than
        another. It ends when one model is left, or when the models left differ by less than `indifference`. The
        confidence holds although the race looks at the results many times (confidence sequences). Half of
        the error probability is reserved for one test after the last example, which has more power than the race; the
        conclusion names the test that decided. Models are asked from this process. The answer cache keeps their
        answers: calling again continues an interrupted race, and a workflow of the winner asks only for the rest.

        Args:
            experiment: record, name or id.
            models: two or more models.
            metric: score to compare by, such as "rougeL", or a metric with one score; default: the main score.
                A corpus-level score that is not a mean (BLEU) is replaced by the mean of the examples' scores.
            confidence: confidence level of the conclusion.
            indifference: differences below this do not matter, in units of the score. With 0, equally good models
                race to the last example.
            budget: maximum cost in dollars of all models and judges together.
            cache: use of the answer cache, as in :meth:`Workflows.launch`.
            groups: metadata column that names the cluster of each example (such as its customer) if examples are not
                independent; the race then asks whole clusters, in random order.
            progress: show a progress display, with anytime-valid confidence intervals.
            seed: random seed of the order.

        Returns:
            The conclusion, also if examples or budget ran out before the best was certain.

        Raises:
            InvalidInputError: a setting is out of range, or fewer than two models can answer.
            ConfigurationError: an API key is missing.

        Examples:
            >>> models = ["baseline/lead-1", "baseline/copy"]
            >>> selection = ws.select(experiment, models, metric="rougeL", progress=False)
            >>> selection.conclusion, selection.best
            ('best', 'baseline/copy')
        """
        question = self._question(experiment, models, metric, Launch(cache=cache, budget=budget), seed)
        return race.select(
            question, self.store, self.workflows.submitter,
            confidence=confidence, indifference=indifference, progress=progress, groups=groups,
        )  # fmt: skip

    def audit(
        self,
        experiment: Experiment | str,
        ground_truth: str | Model | Sequence[str | None],
        *,
        metric: str | None = None,
        budget: float | None = None,
        progress: bool = True,
        **options: Any,
    ) -> Audit:
        """Rank the models by another ground truth, and report whether the winner changes.

        Ground truth written by a model favours models that write like it. Ground truth from another author shows how
        much that matters.

        Args:
            experiment: record, name or id.
            ground_truth: a model that writes it, asked from this process through the answer cache; or one text per
                example (None for an example without).
            metric: score to rank by; default: the main score.
            budget: maximum cost of the model in dollars.
            progress: show a progress display.
            options: as for :meth:`compare`.

        Raises:
            InvalidInputError: the score does not use the ground truth, nothing was answered, or the number of texts
                is not the number of examples.
            BudgetReachedError: the next question might exceed the budget; what was answered is kept.

        Examples:
            >>> texts = [text[:60] for text in ws.datasets.to_pandas(dataset)["example"]]
            >>> audit = ws.audit(experiment, texts, metric="rougeL", progress=False)
            >>> audit.winner_changes
            True
        """
        comparison = self.compare(experiment, **options)
        if not isinstance(ground_truth, (str, Model)):
            # Missing cells of a pandas column are NaN.
            texts = [text if isinstance(text, str) else None for text in ground_truth]
            n_examples = comparison.dataset.n_examples
            if len(texts) != n_examples:
                raise InvalidInputError(
                    f"{len(texts)} texts of ground truth for {n_examples} examples", "give one for each"
                )
            return audits.audit(comparison, texts, "another author", metric)
        launch = Launch(budget=budget)
        question = self._question(experiment, [ground_truth], metric or comparison.main_score, launch, 0)
        texts = pilot_run.answers_of(question, self.store, self.workflows.submitter, progress)
        return audits.audit(comparison, texts, question.labels[0], metric)

    def export(
        self,
        experiment: Experiment | str,
        path: str | Path,
        *,
        data: Literal["full", "hash"] = "full",
        progress: bool = True,
    ) -> Path:
        """Write an experiment, with everything that its comparison needs, into one file to share.

        The file holds no API key and no code; :meth:`load` reads it. The same experiment gives the same bytes.

        Args:
            experiment: record, name or id.
            path: file to write, such as "tickets.lumi.zip". An existing file is replaced once the new one is complete.
            data: "full", or "hash" to leave the examples out. Loading such a file needs the dataset.
            progress: show progress if it takes longer.

        Raises:
            NotFoundError: there is no such experiment.
            InvalidInputError: the path cannot be written, or a setting holds a secret.
            DamagedError: what is stored is not what was written.

        Examples:
            >>> file = ws.export(experiment, "summaries.lumi.zip", progress=False)
            >>> file.name
            'summaries.lumi.zip'
        """
        record = self.experiments.get(experiment)
        self.workflows.refresh(record)
        secrets = {**redaction.secrets_in(self.settings.env_file_variables), **self.settings.stored_secrets}
        return sharing.export(self.database, self.store, record, path, data=data, secrets=secrets, progress=progress)

    def load(self, path: str | Path, *, name: str | None = None, progress: bool = True) -> Experiment:
        """Load an experiment that :meth:`export` wrote, completely or not at all. Nothing in the file is executed.

        Args:
            path: the file.
            name: name of the experiment; default: the one in the file, with a number if it is taken.
            progress: show progress if it takes longer.

        Raises:
            DamagedError: the file is damaged, or was written by a newer version.
            NotFoundError: the file has no examples, and this workspace lacks the dataset.
            ConflictError: the name is taken.
            InvalidInputError: the name holds a secret.

        Examples:
            >>> file = ws.export(experiment, "summaries.lumi.zip", progress=False)
            >>> ws.load(file, name="from a colleague", progress=False).name
            'from a colleague'
        """
        redaction.refuse_secrets([("name", name)], redactor_of(self.settings))
        return sharing.load(self.database, self.store, path, name=name, progress=progress)

    def load_results(
        self,
        source: Any,
        ground_truth: Sequence[Any] | None = None,
        *,
        name: str,
        metrics: Any = None,
        task: Task | None = None,
        **options: Any,
    ) -> Experiment:
        """Load answers, scores or files of other tools into an experiment, to look at, rate, judge and compare there.

        The experiment gets a dataset of the examples, a recorded workflow per model, and the tools' scores. Several
        answers to one example are loaded as the first of them, with their mean scores. A file of this package is better
        loaded by :meth:`load`, which keeps everything.

        Args:
            source, ground_truth: as for :func:`lumigator_nb.compare`.
            name: of the experiment and of the dataset.
            metrics: metrics to compute from the answers, besides the scores of the source; default for answers: those
                of the task.
            task: what the models were asked; default: a text generation.
            options: `examples`, `metadata`, `model`, `item`, `score`, `better`, `ranges`, as for
                :func:`lumigator_nb.compare`.

        Returns:
            The experiment, whose evaluation has been launched: wait for it with :meth:`wait`.

        Raises:
            LumigatorError: the errors of :func:`lumigator_nb.compare`.
            ConflictError: the name is taken.

        Examples:
            >>> scores = pd.DataFrame({"id": [1, 2, 1, 2], "model": list("aabb"), "accuracy": [1, 1, 0, 1]})
            >>> quiz = ws.load_results(scores, name="quiz")
            >>> _ = ws.wait(quiz, progress=False)
            >>> ws.compare(quiz).best("accuracy")
            'a'
        """
        data = outside.data_of(source, ground_truth, task=task, compute=False, **options)
        record = self.datasets.upload(elsewhere.examples_of(data), name=name, example="example", progress=False)
        specs = elsewhere.metrics_of(data)
        computed = [] if metrics is None else list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
        experiment = self.experiments.create_unprompted(
            name, dataset=record, task=task or Task(kind="text_generation"), metrics=[*computed, *specs] or None
        )
        for label, predictions in data.predictions.items():
            scores = elsewhere.scores_of(data, label)
            self.workflows.record(experiment, name=label, predictions=predictions, scores=scores)
        return experiment

    def to_mlflow(
        self, experiment: Experiment | str, *, tracking_uri: str | None = None, experiment_name: str | None = None
    ) -> dict[str, str]:
        """Log the comparison of an experiment to an MLflow server, one run per workflow. A repeated call updates them.

        Args:
            experiment: record, name or id.
            tracking_uri: address of the server; default: MLFLOW_TRACKING_URI of the environment.
            experiment_name: name of the experiment in MLflow; default: the same name.

        Returns:
            The run id of each model, by label.

        Raises:
            MissingExtraError: MLflow's client is not installed.
            ConfigurationError, UnavailableError: no server is named, or none answers.

        Examples:
            >>> runs = ws.to_mlflow(experiment, tracking_uri="file:runs")
            >>> sorted(runs)
            ['baseline/copy', 'baseline/lead-1', 'baseline/lead-3']
        """
        comparison = self.compare(experiment)
        return mlflow.to_mlflow(comparison, tracking_uri=tracking_uri, experiment_name=experiment_name)

    def provenance(self, workflow: Workflow | str) -> Provenance:
        """Return what made a result: user, time, data, model, code and versions.

        Args:
            workflow: record or id.

        Examples:
            >>> origin = ws.provenance(workflows[0]).to_dict()
            >>> origin["dataset"]["name"], origin["asked"]["model"]
            ('dialogues', 'baseline/lead-1')
        """
        record = self.workflows.get(workflow)
        return provenance.of(self.database, self.workflows.refresh([record])[0])

    def reproduce(
        self,
        workflow: Workflow | str,
        *,
        model: Model | None = None,
        budget: float | None = None,
        progress: bool = True,
    ) -> Reproduction:
        """Ask a workflow's model again, without the answer cache, and report whether the scores agree. Blocks.

        Args:
            workflow: record or id.
            model: the function, if the model is a function of a notebook; the database does not store those.
            budget: maximum cost in dollars; default: the workflow's budget.
            progress: show a progress display.

        Raises:
            InvalidInputError: the predictions were recorded, or the model is a function and `model` is missing.
            JobFailedError: too many examples have no answer.

        Examples:
            >>> ws.reproduce(workflows[0], progress=False).reproduced
            True
        """
        return reproduction.reproduce(
            self.database, self.store, self.experiments, self.workflows, workflow,
            model=model, budget=budget, progress=progress,
        )  # fmt: skip

    def gc(self, *, dry_run: bool = False, older_than: timedelta = garbage.OLDER_THAN, force: bool = False) -> Garbage:
        """Remove orphaned files: files without a database row, interrupted uploads, old backups of the database.

        Args:
            dry_run: only report what would be removed.
            older_than: minimum age. Younger files stay, since an upload writes its files before its row.
            force: remove even if the database knows none of the many folders in the store.

        Raises:
            InvalidInputError: `older_than` is negative, or the store seems to belong to another database.

        Examples:
            >>> ws.gc(dry_run=True).n_bytes
            0
        """
        here = Path(tempfile.gettempdir())
        if dry_run:
            return garbage.find(self.database, self.store, older_than, temporary=here)
        return garbage.collect(self.database, self.store, older_than, temporary=here, force=force)

    def inspect(self, report: inspection.Report = inspection.silent) -> Inspection:
        """Read all datasets and results and check them against the database. Changes nothing.

        Args:
            report: called with the progress: stage, number done, total.

        Returns:
            The faults, each with its remedy; empty where everything is as it was written.

        Examples:
            >>> ws.inspect().unrepaired
            []
        """
        return inspection.inspect(self.database, self.store, report, secrets=self.secrets)

    def _question(
        self,
        experiment: Experiment | str,
        models: Sequence[str | Model],
        metric: str | MetricSpec | None,
        launch: Launch,
        seed: int,
        repeats: int = 1,
    ) -> Question:
        record = self.experiments.get(experiment)
        dataset = self.datasets.of(record)
        chosen = reservation.checked_models(models, repeats, launch, here=True)
        reservation.check_labels(chosen, ())
        question = pilot_run.question(self.store, record, dataset, chosen, metric, launch, seed)
        self.workflows.submitter.check_keys(question.all_models)
        return question

    def state(self) -> str:
        """Return a text that changes whenever any process adds, changes or deletes something.

        It costs a few queries. It does not change with the progress of a running step.

        Examples:
            >>> before = ws.state()
            >>> ws.experiments.archive(experiment).name
            'summaries'
            >>> ws.state() == before
            False
        """
        with reading(self.database) as work:
            return work.state()

    def close(self) -> None:
        """Close the database connections. The cluster and its workflows continue.

        Examples:
            >>> ws.close()
        """
        self.database.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return record_views.workspace_text(*self._card())

    def _repr_html_(self) -> str:
        return record_views.workspace_card(*self._card())

    def _card(self) -> tuple[str, list[tuple[str, str, bool | None]], dict[str, int]]:
        with reading(self.database) as work:
            counts = {
                "datasets": work.datasets.count(*work.datasets.visible()),
                "experiments": work.experiments.count(*work.experiments.visible()),
                "workflows": work.workflows.count(),
                "jobs": work.jobs.count(),
            }
        cluster: str
        ok: bool | None
        try:
            info = self.cluster.info()
        except ClusterUnavailableError as error:
            cluster, ok = error.message, False
        else:
            ok = None if info is None else True
            cluster = "local Ray head, starts with the first launch" if info is None else str(info)
        versions = f"lumigator_nb {__version__}, Ray {version('ray')}, Python {platform.python_version()}"
        rows: list[tuple[str, str, bool | None]] = [
            ("Database", self.database.label, True),
            ("Store", self.store.spec.uri, None),
            ("Cluster", cluster, ok),
            ("Versions", versions, None),
        ]
        return "Lumigator workspace", rows, counts


def connect(env_file: str | Path | None = None, **settings: Any) -> Workspace:
    """Open the workspace that `.env` and the environment describe, and create what is missing.

    Without any settings, it uses an SQLite file and a folder in `~/.lumigator`, and a Ray head on this machine. The
    first launch starts the Ray head, which then keeps running.

    Args:
        env_file: path of the `.env` file; default: the nearest one at or above the current folder.
        settings: fields of :class:`Settings`. They override `.env` and the environment.

    Raises:
        ConfigurationError: a setting is malformed.
        DatabaseUnavailableError: the database does not answer, or needs ``lumigator-nb db upgrade``.

    Examples:
        >>> with lm.connect(lumigator_home="mine") as ws:
        ...     ws.datasets.count()
        0
    """
    loaded = config.load(Path(env_file) if env_file else None, **settings)
    make_folder(loaded.home)
    if loaded.home == config.DEFAULT_HOME.expanduser().resolve():
        # Earlier versions left the default folder readable by others. The permissions of a folder that the user has
        # chosen are the user's.
        close_to_others(loaded.home)
    database = Database(loaded.database_url)
    try:
        database.prepare()
    except BaseException:
        # Without a workspace, no one could close the connections later.
        database.close()
        raise
    return Workspace(loaded, database, Store(loaded.store_spec, loaded.store_credentials), connect_cluster(loaded, say))
