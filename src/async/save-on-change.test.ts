import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, test } from 'node:test';
import { saveOnChange } from './save-on-change.ts';
import { looseWork } from './supervise.fixture.ts';

describe('saving on change', () => {
  test('after a slow save the next one waits by the share of the time that saving may take', async () => {
    const ends = new AbortController();
    const saved: string[] = [];
    const seconds = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
    const loops = [
      { name: 'usual', maxShare: undefined, second: seconds[0] },
      { name: 'half', maxShare: 0.5, second: seconds[1] },
    ].map(({ name, maxShare, second }) => {
      let change = (): void => undefined;
      return saveOnChange(
        {
          isChanged: true,
          settleMs: 1,
          ...(maxShare === undefined ? {} : { maxShare }),
          subscribe: (changed) => {
            change = changed;
            return () => undefined;
          },
          save: async () => {
            await sleep(5);
            saved.push(name);
            if (saved.filter((one) => one === name).length === 2) second.resolve();
            else change();
          },
          work: looseWork(),
        },
        ends.signal,
      );
    });
    await seconds[1].promise;
    assert.deepEqual(saved.toSorted(), ['half', 'half', 'usual']);
    await seconds[0].promise;
    ends.abort();
    await Promise.all(loops);
  });
});
