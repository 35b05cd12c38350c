/** The words of the views Network and Fit, in English. */
export const networkTexts = {};
