# input: 28x16
# A picture read row by row, as in many tutorials on recurrent networks.
import torch
import torch.nn as nn


class Rows(nn.Module):
    def __init__(self, features=16, hidden=24, layers=2, classes=10):
        super().__init__()
        self.hidden, self.layers = hidden, layers
        self.conv = nn.Conv1d(features, 12, kernel_size=3, padding=1)
        self.lstm = nn.LSTM(12, hidden, layers, batch_first=True, bidirectional=True, dropout=0.2)
        self.gru = nn.GRU(2 * hidden, 20)
        self.rnn = nn.RNN(20, 8, 1, "relu", bias=False, batch_first=True)
        self.fc = nn.Linear(8 + 2 * hidden, classes)

    def forward(self, x):
        x = self.conv(x).permute(0, 2, 1)
        h0 = torch.zeros(2 * self.layers, x.size(0), self.hidden)
        out, (hn, cn) = self.lstm(x, (h0, h0))
        seq, _ = self.gru(out.transpose(0, 1))
        _, last = self.rnn(seq.transpose(0, 1))
        both = torch.cat([hn[-2], hn[-1], last.squeeze(0)], dim=1)
        return self.fc(both)


model = Rows()
