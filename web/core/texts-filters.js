/** The words of the view Filters, in English. */
export const filtersTexts = {
  'filters.title': 'What a filter sees',
};
