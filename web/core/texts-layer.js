/** The words of the view Layer, in English. */
export const layerTexts = {
  'layer.title': 'One convolution, counted',
};
