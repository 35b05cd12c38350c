import keras
from keras import layers, activations

inputs = keras.Input((64, 64, 3))
x = layers.Conv2D(48, 4, strides=4)(inputs)
x = layers.LayerNormalization(epsilon=1e-6)(x)
for depth in [2, 2]:
    for _ in range(depth):
        residual = x
        x = layers.DepthwiseConv2D(7, padding="same")(x)
        x = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Dense(4 * residual.shape[-1])(x)
        x = layers.Activation(activations.gelu)(x)
        x = layers.Dense(residual.shape[-1])(x)
        x = layers.Add()([residual, x])
    x = layers.Conv2D(x.shape[-1] * 2, 2, strides=2)(x)
x = layers.GlobalAveragePooling2D()(x)
model = keras.Model(inputs, layers.Dense(10)(x))
