"""How ranks meet: NCCL on a GPU and gloo on the CPU go through the same code."""

import subprocess
import sys

import pytest
from support import ROOT

MEET = """
import os, socket, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from kit.trainer.ranks import meet

meeting = socket.create_server(("127.0.0.1", 0))
os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(meeting.getsockname()[1])}
device = torch.device(sys.argv[1])
meet(device, meeting.detach(), 60)
model = DistributedDataParallel(torch.nn.Linear(3, 1).to(device))
model(torch.ones(2, 3, device=device)).sum().backward()
total = torch.ones(3, device=device)
dist.all_reduce(total)
print(dist.get_backend(), total.tolist(), next(model.parameters()).grad.tolist(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("device", "backend"), [("cpu", "gloo"), pytest.param("cuda:0", "nccl", marks=pytest.mark.gpu)]
)
def test_one_rank_meets_itself(device: str, backend: str) -> None:
    done = subprocess.run([sys.executable, "-c", MEET, device], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == f"{backend} [1.0, 1.0, 1.0] [[2.0, 2.0, 2.0]]\n", done.stderr
