/** Why a suite is not run; `false` where CALICO_TEST_LONG=1 asks for what takes long. */
export function unlessLong(why = 'takes minutes'): string | false {
  return process.env['CALICO_TEST_LONG'] === '1' ? false : `${why}; CALICO_TEST_LONG=1 runs it`;
}
