import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { engines } from '../lab/engine.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { NetworkMix } from '../lab/network-mix.ts';

const isLong = process.env['CALICO_TEST_LONG'] === '1';
const seed = Number(process.env['CALICO_TEST_SEED'] ?? 1);

for (const engine of engines) {
  describe(`a container on several networks, Docker ${engine}`, { timeout: 3_600_000 }, () => {
    let lab: NetworkLab;
    before(async () => {
      lab = await startLab({ engine, backend: 'nft', datastore: 'sqlite' });
    });
    after(async () => lab[Symbol.asyncDispose]());

    test('whatever its networks are, it starts, reaches its peers and is reached by them', async (t) => {
      const steps = Number(process.env['CALICO_TEST_STEPS'] ?? (isLong ? 2000 : 200));
      const mix = new NetworkMix(lab, seed);
      await mix.start();
      const { failures, pairs, ...made } = await mix.run(steps);
      t.diagnostic(`${failures.length} of ${made.steps} steps failed, seed ${seed}`);
      for (const [pair, { steps: tried, failures: failed }] of pairs) {
        if (failed > 0) t.diagnostic(`${pair}: ${failed} of ${tried}`);
      }
      for (const { step, networks, why } of failures) {
        t.diagnostic(`${step} ${networks.join()}: ${why.replaceAll('\n', '; ')}`);
      }
      assert.deepEqual(failures, []);
    });
  });
}
