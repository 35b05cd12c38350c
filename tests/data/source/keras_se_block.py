import tensorflow as tf
from tensorflow.keras.layers import *
from tensorflow.keras import backend as K

def se_block(tensor, ratio=16):
    channels = K.int_shape(tensor)[-1]
    se = GlobalAveragePooling2D()(tensor)
    se = Reshape((1, 1, channels))(se)
    se = Dense(channels // ratio, activation="relu", kernel_initializer="he_normal", use_bias=False)(se)
    se = Dense(channels, activation="sigmoid", kernel_initializer="he_normal", use_bias=False)(se)
    return multiply([tensor, se])

inp = Input(shape=(56, 56, 64))
x = Conv2D(128, 3, padding="same")(inp)
x = se_block(x)
x = x + Conv2D(128, 1)(inp)
x = LeakyReLU(0.1)(x * 0.5)
out = GlobalMaxPooling2D()(x)
model = tf.keras.Model(inputs=inp, outputs=out)
