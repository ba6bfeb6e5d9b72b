"""The one place where the parts are put together."""

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
from lumigator_nb.database import record_views as shown
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
from lumigator_nb.services.experiments import Experiments
from lumigator_nb.services.judging import pairwise
from lumigator_nb.services.judging.pairwise import Judgements
from lumigator_nb.services.labelling.labels import Labels
from lumigator_nb.services.models import Models
from lumigator_nb.services.runtime import Runtime
from lumigator_nb.services.upkeep import garbage, inspection
from lumigator_nb.services.upkeep.garbage import Garbage
from lumigator_nb.services.upkeep.inspection import Inspection
from lumigator_nb.services.workflows import claims, provenance, reproduction
from lumigator_nb.services.workflows.annotation import ModelAnnotator
from lumigator_nb.services.workflows.provenance import Provenance
from lumigator_nb.services.workflows.reproduction import Reproduction
from lumigator_nb.services.workflows.single_jobs import Jobs
from lumigator_nb.services.workflows.workflows import Target, Workflows
from lumigator_nb.specs import Launch, MetricSpec, Model
from lumigator_nb.storage.local_files import close_to_others, make_folder
from lumigator_nb.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd


class Workspace:
    """Datasets, experiments and workflows over one database, store and cluster. Made by :func:`connect`.

    Attributes:
        datasets: upload, look, delete.
        experiments: create, look, delete.
        workflows: launch, wait, stop, resume, logs, estimate.
        models: the catalogue of models to choose from.
        labels: what people say of answers: label blindly, add, read, agreement of raters.
        cache: the kept answers of models: how much they take, trim, clear.
        jobs: single jobs, as Lumigator has them: predictions, ground truth or scores of one dataset.
        tokens: that let programs into the REST API.
    """

    def __init__(self, settings: Settings, database: Database, store: Store, cluster: Cluster) -> None:
        self.settings = settings
        self.database = database
        self.store = store
        self.cluster = cluster
        self.secrets = Secrets(database, settings)
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
        """Wait until the workflows of an experiment have ended; see :meth:`Workflows.wait`.

        Examples:
            >>> _ = ws.workflows.launch(experiment, "baseline/lead-2")
            >>> [workflow.status.value for workflow in ws.wait(experiment, progress=False)]
            ['succeeded', 'succeeded', 'succeeded', 'succeeded']
        """
        return list(self.workflows.wait(target, **options))

    def evaluate(
        self, experiment: Experiment | str, metrics: Any = None, *, budget: float | None = None
    ) -> list[Workflow]:
        """Score what an experiment's models have answered already by more metrics; no model is asked again.

        Returns at once: :meth:`wait` for it. Metrics that failed before are tried again.

        Args:
            experiment: record, name or id.
            metrics: as of :meth:`Experiments.create`; None only tries those again that are missing or failed.
            budget: dollars that each workflow may spend in all, its judges included; default what it had before.

        Raises:
            As :meth:`Experiments.create`.
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
        """Compare the workflows of an experiment that have succeeded.

        Args:
            experiment: record, name or id.
            options: `confidence` (default 0.95), `n_resamples` (2000), `seed` (0) of the bootstrap; `groups`, a
                metadata column, where examples come in groups (such as a customer's) and are no independent witnesses.

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
        """Have a judge say, example by example, which of two models' answers is better; waits for it.

        Each pair is asked in both orders; where they disagree it counts as a tie. The judge is asked from this
        process. Its answers are kept: what was cut off goes on where it ended, and the same again costs nothing.

        Args:
            experiment: record, name or id.
            judge: made by :class:`Judge`, or by :class:`Jury`, whose majority counts.
            models: labels of two or more; default all that have succeeded, each against each.
            sample: examples to judge, drawn at random; default all that every model answered.
            retest: questions that are asked twice, to see how far the judge agrees with itself.
            budget: dollars that it may spend.
            cache: whether kept answers are taken; as in :meth:`Workflows.launch`.
            human: labels by people to compare the judge with: columns `row` (of the dataset, from 0), `model`,
                `other` (labels), `preference` (1 the model is better, −1 the other, 0 neither).
            progress: show a display that updates.
            seed: of the sample and of the intervals.

        Raises:
            InvalidInputError: there are not two models to compare, or the labels are malformed.
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
        asked = metrics.models_of([spec])
        self.workflows.submitter.check_keys(asked)
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
        budget: float | None = None,
        cache: Literal["on", "off", "refresh"] = "on",
        progress: bool = True,
        seed: int = 0,
    ) -> Study:
        """Say how many examples it takes to tell models apart, and what they would cost; waits for a pilot.

        The pilot's answers are kept: neither a race (:meth:`select`) nor a workflow asks for them again.

        Args:
            experiment: record, name or id.
            models: two or more.
            metric: the score to compare by, such as "rougeL", or a metric with one score; default the main score.
            detect: the smallest difference that matters, in units of the score.
            power: chance of detecting it where it is there.
            confidence: of the comparison.
            pilot: examples to ask first, drawn at random; 20 to 50 tell enough.
            budget: dollars that the pilot may cost, for all models and judges.
            cache: whether kept answers are taken; as in :meth:`Workflows.launch`.
            progress: show a display that updates.
            seed: of the draw.

        Raises:
            InvalidInputError: a setting is out of range, there are not two models, or one cannot answer.
            ConfigurationError: an API key is missing.
            BudgetReachedError: the next question might exceed the budget; what was answered is kept.

        Examples:
            >>> models = ["baseline/lead-1", "baseline/copy"]
            >>> study = ws.plan(experiment, models, metric="rougeL", detect=0.05, progress=False)
            >>> study.plan.needed
            31
        """
        question = self._question(experiment, models, metric, Launch(cache=cache, budget=budget), seed)
        return power_study.study(
            question, self.store, self.workflows.submitter,
            pilot=pilot, detect=detect, power=power, confidence=confidence, progress=progress,
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
        """Let models race over the examples, and stop as soon as the best is certain; waits for it.

        They answer the same examples in random order. A model that is shown to be worse than another is asked no more;
        the race ends when one is left, or when those left are shown to differ by less than `indifference`. The
        certainty holds although it is looked at again and again; half of the error is kept for one test after the last
        example, which shows more than the race, and the certificate says so. Models are asked from this process. Their
        answers are kept: what was cut off goes on where it ended, and a workflow of the winner asks only for the rest.

        Args:
            experiment: record, name or id.
            models: two or more.
            metric: the score to compare by, such as "rougeL", or a metric with one score; default the main score.
                Where the overall score is no mean (BLEU), the mean of the examples' scores decides.
            confidence: of the conclusion.
            indifference: differences below it do not matter, in units of the score; 0 races on to the last example
                where models are alike.
            budget: dollars that all models and judges together may spend.
            cache: whether kept answers are taken; as in :meth:`Workflows.launch`.
            groups: a metadata column, where examples come in groups (such as a customer's) and are no independent
                witnesses; whole groups are asked, in random order.
            progress: show a display that updates, with intervals that hold at every look.
            seed: of the order.

        Returns:
            What was concluded, also where examples or money ran out before.

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
        """Rank the models by another ground truth, and say whether the winner changes.

        Ground truth that a model has written favours models that write alike; another author's shows how much.

        Args:
            experiment: record, name or id.
            ground_truth: a model that writes it, asked from this process, its answers kept; or one text per example.
            metric: the score to rank by; default the main score.
            budget: dollars that the model may cost.
            progress: show a display that updates.
            options: as of :meth:`compare`.

        Raises:
            InvalidInputError: the score does not look at the ground truth, or nothing was answered.
            BudgetReachedError: the next question might exceed the budget; what was answered is kept.

        Examples:
            >>> texts = [text[:60] for text in ws.datasets.to_pandas(dataset)["example"]]
            >>> audit = ws.audit(experiment, texts, metric="rougeL", progress=False)
            >>> audit.winner_changes
            True
        """
        comparison = self.compare(experiment, **options)
        if not isinstance(ground_truth, (str, Model)):
            return audits.audit(comparison, _one_for_each(ground_truth, comparison), "another author", metric)
        launch = Launch(budget=budget)
        question = self._question(comparison.experiment, [ground_truth], metric or comparison.main_score, launch, 0)
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
        """Write an experiment, with all that its comparison needs, into one file for a colleague.

        No API key is in it, and no code; :meth:`load` takes it in. The same experiment gives the same bytes.

        Args:
            experiment: record, name or id.
            path: of the file, such as "tickets.lumi.zip"; one that is there is replaced once the new one is whole.
            data: "full", or "hash" to leave the examples out: whoever loads the file then needs the dataset.
            progress: show how far it is, where it takes longer.

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
        """Take in an experiment that :meth:`export` wrote, all of it or nothing; nothing of the file is executed.

        Args:
            path: of the file.
            name: of the experiment; default the one that it had, with a number where that is taken.
            progress: show how far it is, where it takes longer.

        Raises:
            DamagedError: the file is not what was written, or of a version that this one does not know.
            NotFoundError: the file is without data, and the dataset is not here.
            ConflictError: the name is taken.
            InvalidInputError: the name holds a secret.

        Examples:
            >>> file = ws.export(experiment, "summaries.lumi.zip", progress=False)
            >>> ws.load(file, name="from a colleague", progress=False).name
            'from a colleague'
        """
        redaction.refuse_secrets([("name", name)], redactor_of(self.settings))
        return sharing.load(self.database, self.store, path, name=name, progress=progress)

    def to_mlflow(
        self, experiment: Experiment | str, *, tracking_uri: str | None = None, experiment_name: str | None = None
    ) -> dict[str, str]:
        """Log the comparison of an experiment to an MLflow server, one run per workflow; again brings them up to date.

        Args:
            experiment: record, name or id.
            tracking_uri: the server's address; default MLFLOW_TRACKING_URI of the environment.
            experiment_name: MLflow's experiment; default the experiment's name.

        Returns:
            The id of the run of each model, by its label.

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
        """Say where a result comes from: who, when, on what data, with what model, code and versions.

        Args:
            workflow: record or id.

        Examples:
            >>> found = ws.provenance(workflows[0]).to_dict()
            >>> found["dataset"]["name"], found["asked"]["model"]
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
        """Ask a workflow's model again, without kept answers, and say whether the numbers agree; waits for it.

        Args:
            workflow: record or id.
            model: where it is a function of a notebook, which no database keeps: that function again.
            budget: dollars that it may cost; default the workflow's own.
            progress: show a display that updates.

        Raises:
            InvalidInputError: the predictions were recorded, or are those of a function that is not given.
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
        """Remove what belongs to nobody: files without a row, uploads that were cut off, old copies of the database.

        Args:
            dry_run: only say what would go.
            older_than: what was written later is left alone, since an upload puts its files before its row.
            force: also where the database knows none of the many folders in the store.

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
        """Read all datasets and results and compare them with what the database says; nothing is changed.

        Args:
            report: told how far it is: what is looked at, how many are done, how many there are.

        Returns:
            The faults, each with its remedy; empty where everything is as it was written.

        Examples:
            >>> ws.inspect().unmended
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
    ) -> Question:
        record = self.experiments.get(experiment)
        dataset = self.datasets.of(record)
        chosen = claims.checked_models(models, 1, launch, here=True)
        claims.check_labels(chosen, ())
        question = pilot_run.question(self.store, record, dataset, chosen, metric, launch, seed)
        self.workflows.submitter.check_keys(question.everybody)
        return question

    def state(self) -> str:
        """Return a text that is another one after anything was added, changed or deleted, in whatever process.

        It costs a look at the database, and says nothing about progress within a job.

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
        """Give the database connections back; the cluster and what works on it go on.

        Examples:
            >>> ws.close()
        """
        self.database.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return shown.workspace_text(*self._card())

    def _repr_html_(self) -> str:
        return shown.workspace_card(*self._card())

    def _card(self) -> tuple[str, list[tuple[str, str, bool | None]], dict[str, int]]:
        with reading(self.database) as work:
            counts = {
                "datasets": work.datasets.count(*work.datasets.visible()),
                "experiments": work.experiments.count(*work.experiments.visible()),
                "workflows": work.workflows.count(),
                "jobs": work.jobs.count(),
            }
        cluster, ok = self._cluster_state()
        versions = f"lumigator_nb {__version__}, Ray {version('ray')}, Python {platform.python_version()}"
        rows: list[tuple[str, str, bool | None]] = [
            ("Database", self.database.label, True),
            ("Store", self.store.spec.uri, None),
            ("Cluster", cluster, ok),
            ("Versions", versions, None),
        ]
        return "Lumigator workspace", rows, counts

    def _cluster_state(self) -> tuple[str, bool | None]:
        try:
            info = self.cluster.info()
        except ClusterUnavailableError as error:
            return error.message, False
        if info is None:
            return "local Ray head, starts with the first launch", None
        return str(info), True


def connect(env_file: str | Path | None = None, **settings: Any) -> Workspace:
    """Open the workspace that `.env` and the environment describe, creating what is missing.

    With nothing set that is an SQLite file and a folder in `~/.lumigator`, and a Ray head on this machine that
    starts with the first launch and stays.

    Args:
        env_file: default the nearest `.env` at or above the current folder.
        settings: fields of :class:`Settings` that win over both.

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
        close_to_others(loaded.home)  # earlier versions left it open; another folder's permissions are its owner's
    database = Database(loaded.database_url)
    try:
        database.prepare()
    except BaseException:
        database.close()
        raise
    return Workspace(loaded, database, Store(loaded.store_spec, loaded.store_credentials), connect_cluster(loaded, say))


def _one_for_each(truth: Sequence[str | None], comparison: Comparison) -> list[str | None]:
    texts = [text if isinstance(text, str) else None for text in truth]
    if len(texts) != comparison.dataset.n_examples:
        raise InvalidInputError(
            f"{len(texts)} texts of ground truth for {comparison.dataset.n_examples} examples", "give one for each"
        )
    return texts
