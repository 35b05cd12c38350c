# input: 64x64x3
# model: net
import torch
from torch import nn

def nin_block(out_channels, kernel_size, strides, padding):
    return nn.Sequential(
        nn.LazyConv2d(out_channels, kernel_size, strides, padding), nn.ReLU(),
        nn.LazyConv2d(out_channels, kernel_size=1), nn.ReLU(),
        nn.LazyConv2d(out_channels, kernel_size=1), nn.ReLU())

net = nn.Sequential(
    nin_block(96, kernel_size=11, strides=4, padding=0),
    nn.MaxPool2d(3, stride=2),
    nin_block(256, 5, strides=1, padding=2), nn.LazyBatchNorm2d(),
    nn.MaxPool2d(3, stride=2),
    nn.Flatten(),
    nn.LazyLinear(10))
