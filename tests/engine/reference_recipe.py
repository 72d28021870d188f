"""The reference recipe, transcribed from its description in plain loops.

It shares nothing with models, loaders and engine, so that an error in them cannot hide here.
"""

import math

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn.functional import leaky_relu, relu

HEAD = 1
REACH = 6
BONES = [(0, 1), (2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (10, 11), (12, 13), (13, 14), (14, 15)]
BONES += [(2, 8), (5, 12), (2, 5)]


def true_heatmaps(joints_2d, image_size):
    """Return the heatmaps (15, S, S) of one sample's joints (16, 2)."""
    size = math.ceil(image_size / 32) * 4
    stride = image_size / size
    around = np.arange(-REACH, REACH + 1)
    window = np.exp(-(around[:, None] ** 2 + around[None, :] ** 2) / (2 * 2**2))
    heatmaps = []
    for joint, (u, v) in enumerate(joints_2d):
        if joint == HEAD:
            continue
        heatmap = np.zeros((size, size), np.float32)
        left, top = int(u / stride + 0.5) - REACH, int(v / stride + 0.5) - REACH
        x0, x1 = max(left, 0), min(left + 13, size)
        y0, y1 = max(top, 0), min(top + 13, size)
        if x0 < x1 and y0 < y1:
            heatmap[y0:y1, x0:x1] = window[y0 - top : y1 - top, x0 - left : x1 - left]
        heatmaps.append(heatmap)
    return np.stack(heatmaps)


class HeatmapNetwork(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        resnet = torchvision.models.get_model(backbone)
        self.conv1, self.bn1, self.maxpool = resnet.conv1, resnet.bn1, resnet.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        self.deconv_layers = nn.Sequential(
            nn.ConvTranspose2d(resnet.fc.in_features, 256, 4, 2, 1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.ConvTranspose2d(256, 256, 4, 2, 1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
        )
        self.final_layer = nn.Conv2d(256, 15, 1)

    def forward(self, image):
        x = self.maxpool(relu(self.bn1(self.conv1(image))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.final_layer(self.deconv_layers(x))


class LiftingNetwork(nn.Module):
    def __init__(self, image_size):
        super().__init__()
        self.side = math.ceil(image_size / 32) * 4 // 8
        flat = 512 * self.side * self.side
        self.conv1, self.bn1 = nn.Conv2d(15, 64, 4, 2, 1), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 128, 4, 2, 1), nn.BatchNorm2d(128)
        self.conv3, self.bn3 = nn.Conv2d(128, 512, 4, 2, 1), nn.BatchNorm2d(512)
        self.fc1, self.fc2, self.fc3 = nn.Linear(flat, 2048), nn.Linear(2048, 512), nn.Linear(512, 20)
        self.b1_fc1, self.b1_fc2, self.b1_fc3 = nn.Linear(20, 32), nn.Linear(32, 32), nn.Linear(32, 48)
        self.b2_fc1, self.b2_fc2, self.b2_fc3 = nn.Linear(20, 512), nn.Linear(512, 2048), nn.Linear(2048, flat)
        self.b2_deconv1 = nn.ConvTranspose2d(512, 128, 4, 2, 1)
        self.b2_deconv2 = nn.ConvTranspose2d(128, 64, 4, 2, 1)
        self.b2_deconv3 = nn.ConvTranspose2d(64, 15, 4, 2, 1)

    def forward(self, heatmaps):
        x = leaky_relu(self.conv1(heatmaps), 0.2)
        x = leaky_relu(self.conv2(x), 0.2)
        x = leaky_relu(self.conv3(x), 0.2)
        x = x.reshape(len(x), -1)
        x = leaky_relu(self.fc1(x), 0.2)
        x = leaky_relu(self.fc2(x), 0.2)
        code = self.fc3(x)
        pose = self.b1_fc3(self.b1_fc2(self.b1_fc1(code))).reshape(-1, 16, 3)
        y = leaky_relu(self.b2_fc1(code), 0.2)
        y = leaky_relu(self.b2_fc2(y), 0.2)
        y = leaky_relu(self.b2_fc3(y), 0.2).reshape(-1, 512, self.side, self.side)
        y = relu(self.b2_deconv1(y))
        y = relu(self.b2_deconv2(y))
        return pose, self.b2_deconv3(y)


def mean_error(predicted, true):
    return ((predicted - true) ** 2).mean(dim=(1, 2, 3)).mean()


def summed_error(predicted, true):
    return ((predicted - true) ** 2).sum(dim=(1, 2, 3)).mean()


def length(vectors):
    return (vectors**2).sum(dim=-1).sqrt()


def pose_error(predicted, true):
    """Return the three terms about poses, weighted and summed."""
    distance = length(predicted - true).mean(dim=1).mean()
    cosine = difference = 0
    for start, end in BONES:
        a = predicted[:, end] - predicted[:, start]
        b = true[:, end] - true[:, start]
        cosine += (a * b).sum(dim=-1) / (length(a) * length(b))
        difference += length(a - b)
    return 0.1 * distance - 0.01 * cosine.mean() + 0.5 * difference.mean()


def train(stage, networks, epochs, image_size):
    """Train, and yield the loss of every step.

    Args:
        stage: train2d, train3d or finetune.
        networks: heatmap network, lifting network or both, as the stage needs them.
        epochs: of (image uint8 (B, 3, H, W) or None, joints_2d (B, 16, 2), joints_3d (B, 16, 3)).
        image_size: side of the image (pixels).
    """
    parameters = [parameter for network in networks for parameter in network.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.001, fused=False, foreach=False)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
    for epoch in epochs:
        for image, joints_2d, joints_3d in epoch:
            true = torch.from_numpy(np.stack([true_heatmaps(joints, image_size) for joints in joints_2d.numpy()]))
            if stage == "train3d":
                (lifting,) = networks
                pose, reconstruction = lifting(true)
                loss = 0.001 * mean_error(reconstruction, true) + pose_error(pose, joints_3d)
            else:
                heatmaps = networks[0]((image / 255 - 0.5) / 0.5)
                loss = mean_error(heatmaps, true)
            if stage == "finetune":
                pose, reconstruction = networks[1](heatmaps)
                loss = loss + 0.001 * summed_error(reconstruction, heatmaps) + pose_error(pose, joints_3d)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()
        schedule.step()
