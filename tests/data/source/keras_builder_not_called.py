# model: build_model()
import keras
from keras import layers

def build_model(input_shape=(48, 48, 1), num_classes=7, *, widths=(32, 64, 128)):
    """Facial expressions."""
    inputs = layers.Input(input_shape)
    x = inputs
    for w in widths:
        block = keras.Sequential([
            layers.Conv2D(w, 3, padding="same"),
            layers.PReLU(shared_axes=[1, 2]),
            layers.GroupNormalization(groups=8),
            layers.SpatialDropout2D(0.2),
            layers.MaxPooling2D(),
        ])
        x = block(x)
    x = layers.Flatten()(x)
    return keras.models.Model(inputs=inputs, outputs=layers.Dense(num_classes)(x))
