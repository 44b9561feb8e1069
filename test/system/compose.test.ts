import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ComposeProject } from '../lab/compose.ts';
import { unlessLong } from '../lab/long.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';

const isLong = unlessLong() === false;
/** In each a project comes up on a bridge, then on calico. */
const [minRounds, maxRounds] = isLong ? [2, 5] : [1, 4];
const containers = isLong ? 50 : 15;
/** Of the times; a start that waits for something takes many times as long. */
const maxRatio = isLong ? 1.5 : 2;

describe(`docker compose up with ${containers} containers at once`, { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab({ engine: '28.5', backend: 'nft', datastore: 'sqlite' });
  });
  after(async () => {
    await lab[Symbol.asyncDispose]();
  });

  test('none fails, all have addresses, all reach, and it takes about as long as on a bridge', async () => {
    const times = { bridge: Number.POSITIVE_INFINITY, calico: Number.POSITIVE_INFINITY };
    let ratio = Number.POSITIVE_INFINITY;
    // The best of some rounds each, as others may use the machine meanwhile.
    for (let round = 0; round < maxRounds && !(round >= minRounds && ratio < maxRatio); round++) {
      for (const network of ['bridge', 'calico'] as const) {
        const project = await ComposeProject.make(lab, `${network}-project`, {
          network,
          containers,
        });
        times[network] = Math.min(times[network], await project.up());
        if (network === 'calico') await reachEachOther(await project.addresses());
        await project.down();
      }
      ratio = times.calico / times.bridge;
    }
    assert.ok(ratio < maxRatio, `calico takes ${ratio.toFixed(2)} times as long as a bridge`);
  });

  async function reachEachOther(
    found: readonly (readonly [name: string, address: string])[],
  ): Promise<void> {
    const addresses = found.map(([, address]) => address);
    assert.equal(new Set(addresses).size, containers);
    assert.ok(addresses.every((address) => address !== ''));
    // Replies come from all to one, and from one to all.
    const loop = 'for a in "$@"; do ping -c 1 -W 2 $a >/dev/null || echo $a; done';
    const unreached = await lab.docker(
      'exec',
      found[0]?.[0] ?? '',
      'sh',
      '-c',
      loop,
      'sh',
      ...addresses,
    );
    assert.equal(unreached, '');
    assert.match(await lab.calico('ipam', 'check'), /^no problems/);
  }
});
