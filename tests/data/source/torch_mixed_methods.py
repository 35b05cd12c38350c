# input: 24x24x8
# model: Mixed()
import torch
import torch.nn as nn
import torch.nn.functional as F

class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.InstanceNorm2d(8)
        self.conv = nn.Conv2d(8, 16, 3, padding="valid")
        self.fold = nn.Unflatten(1, (4, 4))
        self.mix = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        y = self.conv(F.gelu(self.norm(x)))
        g = nn.functional.glu(y, dim=1)
        a, b = torch.split(y, [4, 12], dim=1)
        m = torch.max(b, dim=1, keepdim=True)[0]
        s = torch.stack([a.amax(dim=1), a.mean(1)], dim=1)
        z = torch.cat([m, s, torch.sigmoid(a) * a.tanh()], dim=1)
        z = F.normalize(z).clamp(min=0)
        z = F.pad(z, (1, 1, 2, 2))
        w = self.fold(y).sum(2).unsqueeze(-1).squeeze(-1)
        n = F.local_response_norm(w, 2) ** 2 - 1
        return z.flatten(start_dim=1), self.mix(g).permute(0, 2, 3, 1), -n / 2.0
