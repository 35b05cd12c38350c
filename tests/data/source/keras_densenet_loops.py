import keras
from keras import layers

class Config:
    growth = 12
    blocks = [4, 4, 4]
    reduction = 0.5

def dense_block(x, blocks, growth_rate, name):
    for i in range(blocks):
        x = conv_block(x, growth_rate, name=name + "_block" + str(i + 1))
    return x

def transition_block(x, reduction, name):
    bn_axis = 3 if keras.backend.image_data_format() == "channels_last" else 1
    x = layers.BatchNormalization(axis=bn_axis, epsilon=1.001e-5, name=name + "_bn")(x)
    x = layers.Activation("relu", name=name + "_relu")(x)
    x = layers.Conv2D(int(x.shape[bn_axis] * reduction), 1, use_bias=False, name=name + "_conv")(x)
    return layers.AveragePooling2D(2, strides=2, name=name + "_pool")(x)

def conv_block(x, growth_rate, name):
    bn_axis = 3
    x1 = layers.BatchNormalization(axis=bn_axis, name=name + "_0_bn")(x)
    x1 = layers.Activation("relu", name=name + "_0_relu")(x1)
    x1 = layers.Conv2D(4 * growth_rate, 1, use_bias=False, name=name + "_1_conv")(x1)
    x1 = layers.BatchNormalization(axis=bn_axis, name=name + "_1_bn")(x1)
    x1 = layers.Activation("relu", name=name + "_1_relu")(x1)
    x1 = layers.Conv2D(growth_rate, 3, padding="same", use_bias=False, name=name + "_2_conv")(x1)
    return layers.Concatenate(axis=bn_axis, name=name + "_concat")([x, x1])

inputs = layers.Input((32, 32, 3))
x = layers.Conv2D(2 * Config.growth, 3, padding="same", use_bias=False)(inputs)
for index, count in enumerate(Config.blocks):
    x = dense_block(x, count, Config.growth, name=f"conv{index + 2}")
    if index < len(Config.blocks) - 1:
        x = transition_block(x, Config.reduction, name=f"pool{index + 2}")
x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
