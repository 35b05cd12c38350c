from keras import layers, models

def depthwise_block(inputs, filters, alpha, strides=(1, 1), block_id=1):
    filters = int(filters * alpha)
    if strides == (1, 1):
        x = inputs
    else:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name="conv_pad_%d" % block_id)(inputs)
    x = layers.DepthwiseConv2D((3, 3), padding="same" if strides == (1, 1) else "valid",
                               strides=strides, use_bias=False, name="conv_dw_%d" % block_id)(x)
    x = layers.BatchNormalization(axis=-1, name="conv_dw_%d_bn" % block_id)(x)
    x = layers.ReLU(6.0, name="conv_dw_%d_relu" % block_id)(x)
    x = layers.Conv2D(filters, (1, 1), padding="same", use_bias=False, name="conv_pw_%d" % block_id)(x)
    x = layers.BatchNormalization(axis=-1, name="conv_pw_%d_bn" % block_id)(x)
    return layers.ReLU(6.0, name="conv_pw_%d_relu" % block_id)(x)

alpha = 0.5
img_input = layers.Input(shape=(96, 96, 3))
x = layers.Conv2D(int(32 * alpha), 3, strides=2, padding="same", use_bias=False)(img_input)
x = layers.BatchNormalization()(x)
x = layers.ReLU(6.0)(x)
settings = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
for block_id, (filters, s) in enumerate(settings, 1):
    x = depthwise_block(x, filters, alpha, strides=(s, s), block_id=block_id)
x = layers.GlobalAveragePooling2D(keepdims=True)(x)
x = layers.Dropout(1e-3)(x)
x = layers.Conv2D(100, (1, 1), padding="same", name="conv_preds")(x)
x = layers.Reshape((100,), name="reshape_2")(x)
model = models.Model(img_input, layers.Activation("softmax")(x))
