"""What remedies against forgetting add to a loss: closed forms, nothing at the start, and nothing in what is saved."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import SIDE
from visionft.data.records import Record, Table
from visionft.data.views import Views, batches
from visionft.errors import ConfigError, DataError
from visionft.features import EVALUATION
from visionft.norms import settle
from visionft.order import Order
from visionft.recipe import Finetune, Optim, Recipe
from visionft.retention import ewc, remedies
from visionft.retention.ewc import EWC
from visionft.retention.l2sp import L2SP
from visionft.retention.lwf import LwF
from visionft.retention.replay import Replay, Replayed
from visionft.retention.retained import answers_of, halves
from visionft.retention.start import Start
from visionft.retention.wise import Wise
from visionft.train import fit
from visionft.weights import Loaded, OldHead

ANSWERS = 12  # of the classifier that came with the weights: more than FEW


@pytest.fixture
def plain(pixels) -> Views:
    return Views(pixels[:12], EVALUATION, {"image": SIDE})


def old(backbone, answers: int = ANSWERS):
    """Give a backbone a classifier, as weights from a hub would."""
    draw = torch.Generator().manual_seed(7)
    head = OldHead(torch.randn(answers, backbone.dim, generator=draw), torch.randn(answers, generator=draw))
    backbone.loaded = Loaded("a test", ("all",), head=head)
    return backbone


@pytest.fixture(params=["test_vit", "test_resnet"])
def task(request, make_objective):
    """A task whose backbone came with a classifier, in the mode that it trains in."""
    made = make_objective("classify", request.param)
    old(made.backbone)
    settle(made, stay=True)
    return made


def moved(model: nn.Module, scale: float = 0.01) -> nn.Module:
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(scale * torch.randn(p.shape, generator=draw))
    return model


def batch_of(objective, make_data, memory: Views | None = None, count: int = 8):
    data = objective.deal(make_data(objective), memory) if hasattr(objective, "deal") else make_data(objective)
    return data.collate([data[i] for i in Order(24, count, seed=0).of(0)])


MAKE = {
    "l2sp": lambda task, plain: L2SP(task),
    "ewc": lambda task, plain: EWC(task, plain, count=4),
    "lwf, answers": lambda task, plain: LwF(task, what="answers"),
    "lwf, features": lambda task, plain: LwF(task, what="features"),
    "replay, answers": lambda task, plain: Replay(task),
    "replay, features": lambda task, plain: Replay(task, what="features"),
}


@pytest.fixture(params=MAKE)
def kept(request, task, plain):
    made = MAKE[request.param](task, plain)
    settle(made, stay=True)
    return made


@torch.no_grad()
def test_a_remedy_asks_for_nothing_at_the_start_and_for_something_later(kept, make_data, plain):
    batch = batch_of(kept, make_data, plain)
    losses = kept(batch)
    name = type(kept).__name__.lower()
    assert float(losses[name]) == 0
    assert torch.equal(losses["loss"], kept.task(batch)["loss"])
    moved(kept.backbone)
    later = kept(batch)
    assert float(later[name]) > 1e-6
    torch.testing.assert_close(later["loss"], later["task"] + later[name])


def test_a_remedy_trains_the_task_under_its_own_names_and_saves_nothing_else(kept, make_objective):
    twin = make_objective("classify", kept.backbone.name)
    assert [name for name, _ in kept.named_parameters()] == [name for name, _ in twin.named_parameters()]
    assert kept.state_dict().keys() == twin.state_dict().keys()
    assert kept.backbone is kept.task.backbone


@torch.no_grad()
def test_a_remedy_hears_of_modes_and_a_copy_of_it_is_whole(kept, make_data, plain):
    twin, batch, name = copy.deepcopy(kept), batch_of(kept, make_data, plain), type(kept).__name__.lower()
    assert twin.backbone is twin.task.backbone
    moved(twin)
    assert float(twin(batch)[name]) > 0
    assert float(kept(batch)[name]) == 0
    kept.eval()
    assert not kept.task.training
    kept.train()
    assert kept.task.training


def test_what_lies_aside_moves_along_and_never_learns(kept):
    assert not any(p.requires_grad for p in kept.aside.parameters())
    kept.double()
    assert all(p.dtype == torch.float64 for p in kept.aside.parameters())


def test_the_gradient_of_l2sp_is_its_weight_times_the_way_from_the_start(task):
    kept = L2SP(task, weight=0.3)
    start = {name: p.detach().clone() for name, p in task.named_parameters()}
    moved(task)
    next(iter(task.backbone.net.parameters())).requires_grad_(False)
    kept.penalty({}, []).backward()
    for name, p in task.named_parameters():
        if not p.requires_grad or not name.startswith("backbone."):
            assert p.grad is None, f"{name} is frozen or new: it is free to stay or go"
        else:
            torch.testing.assert_close(p.grad, 0.3 * (p.detach() - start[name]))


@pytest.mark.parametrize("classes", [3, ANSWERS])
def test_the_fisher_information_of_a_linear_softmax_has_its_closed_form(classes):
    """F of W_kd is the mean of p_k (1 - p_k) x_d^2, and of b_k that of p_k (1 - p_k); drawn answers come close."""
    draw = torch.Generator().manual_seed(0)
    model = nn.Linear(5, classes)
    with torch.no_grad():
        model.weight.copy_(torch.randn(classes, 5, generator=draw) / 2)
    few = classes <= ewc.FEW
    x = torch.randn(6, 1, 5, generator=draw).repeat(1 if few else 3000, 1, 1)
    found = ewc.fisher(model, [model.weight, model.bias], x, ewc.answers)
    p = model(x[:6, 0]).softmax(1).detach()
    variance = p * (1 - p)
    wanted = [torch.einsum("nk,nd->kd", variance, x[:6, 0].square()) / 6, variance.mean(0)]
    for f, w in zip(found, wanted, strict=True):
        torch.testing.assert_close(f, w, **({} if few else {"rtol": 0.25, "atol": 0.01}))


def test_the_fisher_information_of_features_is_the_squared_derivative_of_them_all():
    model = nn.Linear(5, 4, bias=False)
    x = torch.randn(1, 1, 5, generator=torch.Generator().manual_seed(0))
    found = ewc.fisher(model, [model.weight], x.repeat(50, 1, 1), ewc.noise)[0]
    torch.testing.assert_close(found, x[0].square().expand(4, 5))  # signs square to one, whatever was drawn


def test_ewc_pulls_by_importance_which_is_one_on_average_and_the_same_again(task, plain):
    before = torch.get_rng_state()
    kept, again = EWC(task, plain, weight=0.2, count=4), EWC(task, plain, weight=0.2, count=4)
    assert torch.equal(before, torch.get_rng_state())
    fisher = [*kept.importance()]
    assert all(torch.equal(a, b) for a, b in zip(fisher, again.importance(), strict=True))
    total = sum(float(f.sum()) for f in fisher)
    assert total == pytest.approx(sum(f.numel() for f in fisher), rel=1e-4)
    start = [p.detach().clone() for p in task.backbone.net.parameters()]
    moved(task)
    kept.penalty({}, []).backward()
    for p, w0, f in zip(task.backbone.net.parameters(), start, fisher, strict=True):
        torch.testing.assert_close(p.grad, 0.2 * f * (p.detach() - w0), rtol=1e-4, atol=1e-7)


def test_ewc_looks_at_images_from_all_over_the_source(task, pixels, monkeypatch):
    seen = []
    monkeypatch.setattr(ewc, "fisher", lambda answer, weights, images, directions: (
        seen.extend(images), [torch.ones_like(w) for w in weights])[1])  # fmt: skip
    EWC(task, data := Views(pixels, EVALUATION, {"image": SIDE}), count=3)
    whole = next(batches(data, 24))["image"]
    assert torch.equal(torch.cat(seen), whole[[0, 12, 23]])


@torch.no_grad()
def test_lwf_compares_softened_answers_and_features_by_their_length(task, make_data):
    images = batch_of(task, make_data)["image"]
    head, far = task.backbone.loaded.head, 1.1
    answers, features = Start(task.backbone, "auto", 2.0), Start(task.backbone, "features", 2.0)
    z = task.backbone(images).detach()
    p, q = ((head(x) / 2).softmax(1) for x in (z, far * z))
    wanted = 4 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(answers.distance(images, far * z), wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(features.distance(images, far * z), torch.tensor(0.01), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_the_start_stays_where_it_was_when_the_backbone_has_gone(task, make_data):
    images, kept = batch_of(task, make_data)["image"], LwF(task, what="features")
    before = task.backbone(images).detach()
    moved(task)
    task.train()
    task.backbone(images)  # a batch norm in training would move its statistics here
    assert torch.equal(kept.aside.start.distance(images, before), torch.tensor(0.0))


@torch.no_grad()
def test_with_mixup_the_start_is_asked_about_the_blend(make_objective, make_data):
    task = make_objective("classify", "test_vit", mixup=1.0)
    kept = LwF(task, what="features").train()
    torch.manual_seed(0)
    assert float(kept(batch_of(task, make_data))["lwf"]) == 0


@pytest.mark.parametrize("parts", [1, 2])
def test_replay_deals_the_same_images_for_the_same_seed_and_step_whatever_the_parts(parts, pixels):
    views = {"image": next(iter(EVALUATION.values()))}
    new, memory = (Views(p, views, {"image": SIDE}, seed=5) for p in (pixels[:16], pixels[16:]))
    data = Replayed(new, memory, every=2)

    def dealt(parts: int, start: int) -> Tensor:
        order = iter(Order(16, 8, seed=5, parts=parts, start=start))
        return torch.cat([data.collate([data[i] for i in next(order)])["retained"] for _ in range(parts)])

    assert dealt(1, 3).shape == (4, 3, SIDE, SIDE)
    assert torch.equal(dealt(parts, 3), dealt(1, 3))
    assert not torch.equal(dealt(parts, 4), dealt(1, 3))


def test_replay_comes_to_every_retained_image_and_changes_it_anew(pixels):
    from visionft.objective import View

    new, memory = (Views(p, {"image": View("light")}, {"image": SIDE}) for p in (pixels[:16], pixels[16:]))
    data = Replayed(new, memory, every=1)
    order = Order(16, 16, seed=0)
    seen = [data._companion(int(data[i]["draw"])) for step in range(8) for i in order.of(step)]
    assert {int(draw) for draw in seen} == set(range(8))
    assert len({(int(draw), draw.epoch) for draw in seen}) == 128


CASES = {
    "l2sp": ({}, {}),
    "ewc": ({"count": 4}, {"optim": Optim(name="sgd", lr=0.01)}),
    "lwf": ({}, {"tune": "gradual"}),
    "replay": ({"every": 2}, {"accumulate": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_with_a_remedy_that_was_cut_off_ends_like_one_that_was_not(
    name, make_objective, make_data, plain, tmp_path
):
    options, changes = CASES[name]
    told = Recipe(steps=6, batch=8, precision="fp32", save_every=1, log_every=1, batchnorm="frozen", **changes)

    def run(out=None, log=lambda step, metrics: None) -> dict[str, Tensor]:
        task = make_objective("classify", "test_resnet", dropout=0.3)
        kept = remedies.REMEDIES[name](task, plain, **options)
        old(task.backbone)
        fit(kept, kept.deal(make_data(task), plain), told, out=out, log=log)
        return {k: v.detach().contiguous() for k, v in task.state_dict().items()}

    def dies(step: int, metrics: dict) -> None:
        if step == 4:
            raise KeyError

    straight = run()
    with pytest.raises(KeyError):
        run(tmp_path, dies)
    torch.manual_seed(999)
    resumed = run(tmp_path)
    assert all(torch.equal(straight[k], resumed[k]) for k in straight)
    free = make_objective("classify", "test_resnet", dropout=0.3)
    fit(free, make_data(free), told)
    assert not all(torch.equal(straight[k], v) for k, v in free.state_dict().items())


def test_l2sp_keeps_a_run_nearer_to_its_start(make_objective, make_data):
    told, ways = Recipe(steps=10, batch=8, precision="fp32", optim=Optim(lr=3e-3)), []
    for weight in (0.0, 1.0):
        task = make_objective("classify", "test_vit")
        start = copy.deepcopy(task.backbone.net)
        fit(L2SP(task, weight=weight), make_data(task), told)
        pairs = zip(task.backbone.net.parameters(), start.parameters(), strict=True)
        ways.append(sum(float((a - b).detach().square().sum()) for a, b in pairs))
    assert ways[1] < 0.7 * ways[0]


def test_wise_ends_at_its_share_of_the_way(make_objective):
    task = make_objective("classify", "test_resnet")
    start = {k: v.clone() for k, v in task.state_dict().items()}
    learner = Wise(task, share=0.25)
    moved(task)
    end = {k: v.clone() for k, v in task.state_dict().items()}
    remedies.settle(learner)
    for k, v in task.state_dict().items():
        if v.is_floating_point():
            torch.testing.assert_close(v, 0.75 * start[k] + 0.25 * end[k])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"keep": "lwff"}, "did you mean lwf"),
        ({"keep": {"name": "none", "weight": 1.0}}, "keep.name=l2sp"),
        ({"keep": {"name": "l2sp", "wait": 1.0}}, "did you mean keep.weight"),
        ({"keep": {"name": "l2sp", "weight": -1.0}}, "above 0"),
        ({"keep": {"name": "ewc", "weight": float("nan")}}, "above 0"),
        ({"keep": "l2sp", "adapter": "lora"}, "keep=lwf or keep=replay"),
        ({"keep": "lwf", "tune": "probe"}, "nothing that could be forgotten"),
        ({"keep": "replay"}, "retained=photos/"),
        ({"keep": {"name": "replay", "every": 3}, "retained": "x"}, "does not divide the 32"),
        ({"keep": "wise", "tune": "full"}, "probe-then-full"),
        ({"keep": {"name": "wise", "share": 1.5}}, "at most 1"),
        ({"keep": "wise", "average": True}, "leave one of them out"),
        ({"retained": "x", "folds": 3}, "leave folds out"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_work(words, said):
    with pytest.raises(ConfigError, match=said):
        remedies.check(Finetune(**words))


def test_answers_need_a_classifier(make_objective):
    backbone = make_objective("classify", "test_vit").backbone
    recipe = Finetune(keep={"name": "lwf", "what": "answers"})
    with pytest.raises(ConfigError, match=r"take keep\.what=features"):
        remedies.suits(recipe, backbone)
    remedies.suits(recipe, old(backbone))


def test_halves_are_disjoint_the_same_in_any_order_and_share_no_content():
    rng = np.random.default_rng(0)
    records = [Record(np.zeros((2, 2)), digest=str(rng.integers(20)), label=i % 2) for i in range(60)]
    table = Table(tuple(records), ("a", "b"))
    turned = Table(tuple(reversed(records)), ("a", "b"))
    one, other = ({table[i].digest for i in half} for half in halves(table))
    assert not one & other
    assert abs(len(one) - len(other)) <= 1
    assert len(one | other) == len({r.digest for r in records})
    unlabelled, mirrored = (Table(tuple(Record(r.image, digest=r.digest) for r in t)) for t in (table, turned))
    assert {unlabelled[i].digest for i in halves(unlabelled)[0]} == {mirrored[i].digest for i in halves(mirrored)[0]}


def test_halves_follow_the_split_of_the_source():
    records = [Record(np.zeros((2, 2)), digest=str(i), split=("train", "val", "test")[i % 3]) for i in range(12)]
    memory, judged = halves(Table(tuple(records)))
    assert {records[i].split for i in judged} == {"test"}
    assert {records[i].split for i in memory} == {"train", "val"}


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match="holds 1 different images"):
        halves(Table(tuple(Record(np.zeros((2, 2)), digest="same") for _ in range(20)), source="x"))


def test_classes_are_found_among_old_answers_by_name_by_number_and_by_synset():
    assert answers_of(("cat", "ant"), ("ant", "bee", "cat"), 3).tolist() == [2, 0]
    assert answers_of(("0004", "7"), (), 10) is None
    assert answers_of(("4", "7"), (), 10).tolist() == [4, 7]
    assert answers_of(("n01440764", "n01484850"), (), 1000).tolist() == [0, 2]
    assert answers_of(("n01440764", "n01484850"), (), 21841) is None
    assert answers_of(("cat", "dog"), ("ant", "bee", "cat"), 3) is None
    assert answers_of((), (), 3) is None
