/** The reason to skip a long suite; `false` with CALICO_TEST_LONG=1. */
export function unlessLong(why = 'takes minutes'): string | false {
  return process.env['CALICO_TEST_LONG'] === '1' ? false : `${why}; CALICO_TEST_LONG=1 runs it`;
}
