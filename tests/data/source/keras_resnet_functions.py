from tensorflow import keras
from tensorflow.keras import layers
from tensorflow.keras.regularizers import l2

def conv_bn(x, filters, kernel=3, strides=1, activation=True):
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False,
                      kernel_initializer="he_normal", kernel_regularizer=l2(1e-4))(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
    if activation:
        x = layers.Activation("relu")(x)
    return x

def residual_block(x, filters, downsample=False):
    shortcut = x
    stride = 2 if downsample else 1
    y = conv_bn(x, filters, strides=stride)
    y = conv_bn(y, filters, activation=False)
    if downsample or x.shape[-1] != filters:
        shortcut = conv_bn(x, filters, 1, stride, False)
    out = layers.Add()([shortcut, y])
    return layers.ReLU()(out)

inputs = keras.Input(shape=(32, 32, 3))
x = conv_bn(inputs, 64)
num_filters = 64
for i, blocks in enumerate([2, 2, 2, 2]):
    for j in range(blocks):
        x = residual_block(x, num_filters, downsample=(j == 0 and i != 0))
    num_filters *= 2
x = layers.AveragePooling2D(4)(x)
x = layers.Flatten()(x)
outputs = layers.Dense(10, activation="softmax")(x)
model = keras.Model(inputs, outputs, name="resnet18")
