from tensorflow.keras.layers import (Input, Conv2D, MaxPooling2D, Conv2DTranspose, concatenate,
                                     BatchNormalization, Activation, Dropout)
from tensorflow.keras.models import Model

def conv_block(inputs, n_filters, kernel_size=3, batchnorm=True):
    x = inputs
    for _ in range(2):
        x = Conv2D(filters=n_filters, kernel_size=(kernel_size, kernel_size), padding="same")(x)
        if batchnorm:
            x = BatchNormalization()(x)
        x = Activation("relu")(x)
    return x

def get_unet(input_img, n_filters=16, dropout=0.1, batchnorm=True):
    skips = []
    x = input_img
    for i in range(4):
        c = conv_block(x, n_filters * 2 ** i, batchnorm=batchnorm)
        skips.append(c)
        x = MaxPooling2D((2, 2))(c)
        x = Dropout(dropout)(x)
    x = conv_block(x, n_filters * 16, batchnorm=batchnorm)
    for i, skip in reversed(list(enumerate(skips))):
        u = Conv2DTranspose(n_filters * 2 ** i, (3, 3), strides=(2, 2), padding="same")(x)
        u = concatenate([u, skip])
        u = Dropout(dropout)(u)
        x = conv_block(u, n_filters * 2 ** i, batchnorm=batchnorm)
    outputs = Conv2D(1, (1, 1), activation="sigmoid")(x)
    return Model(inputs=[input_img], outputs=[outputs])

im_height = im_width = 64
input_img = Input((im_height, im_width, 1), name="img")
model = get_unet(input_img, n_filters=16, dropout=0.05, batchnorm=True)
