# input: 128x9
# model: Cnn1d()
import torch
import torch.nn as nn

class Cnn1d(nn.Module):
    def __init__(self, channels=9, n_classes=6):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(channels, 64, 3, dilation=2, padding=2),
            nn.BatchNorm1d(64),
            nn.LeakyReLU(0.1),
            nn.MaxPool1d(2),
            nn.Conv1d(64, 128, 5, stride=2),
            nn.PReLU(),
            nn.AdaptiveMaxPool1d(4),
        )
        self.out = nn.Linear(128 * 4, n_classes)

    def forward(self, x):
        b = x.shape[0]
        x = self.net(x).reshape(b, -1)
        return self.out(x).softmax(dim=-1)
