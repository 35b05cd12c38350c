import keras
from keras import layers

@keras.saving.register_keras_serializable()
class ResidualBlock(layers.Layer):
    def __init__(self, filters, stride=1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.main_layers = [
            layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(filters, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
        ]
        self.skip_layers = []
        if stride > 1:
            self.skip_layers = [
                layers.Conv2D(filters, 1, strides=stride, padding="same", use_bias=False),
                layers.BatchNormalization(),
            ]

    def call(self, inputs, training=None):
        z = inputs
        for layer in self.main_layers:
            z = layer(z, training=training)
        skip = inputs
        for layer in self.skip_layers:
            skip = layer(skip)
        return keras.activations.relu(z + skip)

model = keras.Sequential([
    keras.Input((64, 64, 3)),
    layers.Conv2D(64, 7, strides=2, padding="same", use_bias=False),
    layers.BatchNormalization(),
    layers.ReLU(),
    layers.MaxPool2D(pool_size=3, strides=2, padding="same"),
])
prev_filters = 64
for filters in [64] * 2 + [128] * 2:
    strides = 1 if filters == prev_filters else 2
    model.add(ResidualBlock(filters, stride=strides))
    prev_filters = filters
model.add(layers.GlobalAvgPool2D())
model.add(layers.Dense(10, activation="softmax"))
