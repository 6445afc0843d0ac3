"""Models and refiners that several threads share."""

from __future__ import annotations

import copy
import pickle
import threading
import time

from torch import nn

from papers_shared.threads import evaluation_mode, lock_of


def test_modes_are_put_back_when_the_last_thread_leaves() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    network[1].eval()
    seen: list[bool] = []

    def use(seconds: float) -> None:
        with evaluation_mode(network):
            time.sleep(seconds)
            seen.append(any(module.training for module in network.modules()))

    threads = [threading.Thread(target=use, args=(0.02 * number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [False] * 4
    assert [module.training for module in network.modules()] == [True, True, False]
    copy.deepcopy(network), pickle.dumps(network)


def test_an_object_has_one_lock() -> None:
    one, other = nn.Identity(), nn.Identity()
    assert lock_of(one) is lock_of(one)
    assert lock_of(one) is not lock_of(other)
