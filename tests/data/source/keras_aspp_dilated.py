from tensorflow import keras
from tensorflow.keras import layers

def convolution_block(block_input, num_filters=256, kernel_size=3, dilation_rate=1, use_bias=False):
    x = layers.Conv2D(
        num_filters,
        kernel_size=kernel_size,
        dilation_rate=dilation_rate,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=keras.initializers.HeNormal(),
    )(block_input)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x)

def DilatedSpatialPyramidPooling(dspp_input):
    dims = dspp_input.shape
    x = layers.AveragePooling2D(pool_size=(dims[-3], dims[-2]))(dspp_input)
    x = convolution_block(x, kernel_size=1, use_bias=True)
    out_pool = layers.UpSampling2D(
        size=(dims[-3] // x.shape[1], dims[-2] // x.shape[2]),
        interpolation="bilinear",
    )(x)
    outs = [out_pool, convolution_block(dspp_input, kernel_size=1, dilation_rate=1)]
    outs += [convolution_block(dspp_input, kernel_size=3, dilation_rate=r) for r in (6, 12, 18)]
    x = layers.Concatenate(axis=-1)(outs)
    return convolution_block(x, kernel_size=1)

model_input = keras.Input(shape=(32, 32, 64))
x = DilatedSpatialPyramidPooling(model_input)
model = keras.Model(inputs=model_input, outputs=layers.Conv2D(20, (1, 1), padding="same")(x))
