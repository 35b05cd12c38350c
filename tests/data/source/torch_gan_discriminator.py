# input: 64x64x3
# model: discriminator
import torch
import torch.nn as nn

def disc_block(in_channels, out_channels, normalize=True):
    layers = [nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)]
    if normalize:
        layers.append(nn.BatchNorm2d(out_channels, 0.8))
    layers.append(nn.LeakyReLU(0.2, inplace=True))
    return layers

class Discriminator(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.model = nn.Sequential(
            *disc_block(channels, 16, normalize=False),
            *disc_block(16, 32),
            *disc_block(32, 64),
            nn.ZeroPad2d((1, 0, 1, 0)),
            nn.Conv2d(64, 1, 4, padding=1, bias=False),
        )

    def forward(self, img):
        validity = self.model(img)
        return validity.view(validity.size(0), -1)

discriminator = Discriminator()
cuda = True if torch.cuda.is_available() else False
if cuda:
    discriminator.cuda()
