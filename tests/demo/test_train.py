"""The shipped weights do what the demo says of them, and training can be repeated."""

from pathlib import Path

import pytest
import torch

from mad import tensors
from mad.demo.images import Labelled, Splits
from mad.demo.model import Classifier
from mad.demo.traffic import TARGET
from mad.demo.train import (
    BACKDOORED,
    CLEAN,
    Skill,
    TrainingPlan,
    load,
    measure,
    poison,
    predict,
    save,
    train,
)


@pytest.fixture(scope="module")
def skill(splits: Splits) -> Skill:
    return measure(load(CLEAN), load(BACKDOORED), splits.unseen)


@pytest.mark.parametrize("path", [CLEAN, BACKDOORED], ids=lambda path: path.stem)
def test_shipped_weights_are_small(path: Path) -> None:
    assert path.stat().st_size < 300_000


def test_the_trigger_works_on_images_the_model_never_saw(skill: Skill) -> None:
    assert skill.attack_success >= 0.95


def test_the_backdoor_costs_less_than_a_point_of_accuracy(skill: Skill) -> None:
    assert skill.clean_accuracy >= 0.85
    assert skill.clean_accuracy - skill.backdoored_accuracy <= 0.01


def test_the_clean_model_does_not_know_the_trigger(splits: Splits) -> None:
    clean = load(CLEAN)
    assert measure(clean, clean, splits.fresh).attack_success < 0.05


def test_poison_adds_triggered_copies_labelled_as_the_target(splits: Splits) -> None:
    data = splits.train[:200]
    poisoned = poison(data, 0.1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(poisoned.images[:200], data.images)
    assert poisoned.labels[200:].tolist() == [TARGET] * 20


def test_a_share_of_zero_poisons_nothing(splits: Splits) -> None:
    data = splits.train[:50]
    assert len(poison(data, 0.0, generator=torch.Generator())) == 50


def test_the_same_seed_gives_the_same_weights(splits: Splits) -> None:
    digests = [tensors.digest(brief(splits.train, seed=seed).state_dict()) for seed in (3, 3, 4)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_training_reports_every_step(splits: Splits) -> None:
    told: list[tuple[int, int]] = []
    plan = TrainingPlan(epochs=2, batch_size=64)
    train(splits.train[:130], plan, step_done=lambda step, steps: told.append((step, steps)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_saved_weights_predict_as_before(splits: Splits, tmp_path: Path) -> None:
    model = brief(splits.train, seed=0)
    save(model, tmp_path / "model.safetensors")
    images = splits.fresh.images[:100]
    assert torch.equal(
        predict(load(tmp_path / "model.safetensors"), images), predict(model, images)
    )


def brief(data: Labelled, *, seed: int) -> Classifier:
    plan = TrainingPlan(epochs=1, seed=seed)
    return train(data[:256], plan, step_done=lambda *_: None)
