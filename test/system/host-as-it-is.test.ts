import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { uplinkAddresses } from '../lab/machine.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';

/** What people have on their hosts that cuts containers off, and what `status` says of it. */
describe('a host as people have it', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab({ engine: '28.5', backend: 'nft', datastore: 'sqlite' });
    await lab.tour('--ipv6');
  });
  after(async () => lab[Symbol.asyncDispose]());

  const isWell = () => lab.eventually(async () => (await lab.calicoResult('status')).status === 0);
  const status = async () => (await lab.calicoResult('status')).stdout;
  const shell = (command: string) => lab.host.run(['sh', '-ec', command]);
  /** The commands that a line of `status` gives behind a colon. */
  const remedyOf = (text: string, line: RegExp): string => {
    const found = line.exec(text);
    assert.ok(found, text);
    return found[1] ?? '';
  };
  const inside = async () => lab.reaches('inside', await lab.address('app', 'web'));

  for (const [what, chain] of [
    ['a policy of drop', 'type filter hook forward priority 10; policy drop;'],
    ['a last rule that rejects', 'type filter hook forward priority 10; counter log reject;'],
  ] as const) {
    test(`an nftables chain with ${what} is named, and what status says mends it`, async () => {
      assert.ok(await inside());
      await shell(`nft 'table inet mine {
        chain forward {
          ${chain}
        }
      }'`);
      assert.equal(await inside(), false);
      const said = await status();
      assert.match(said, /FAIL +nftables: chain inet mine forward drops forwarded packets/);
      await shell(
        remedyOf(said, /\(docs\/firewalls\.md\): (nft .*)$/m).replaceAll('"cali*"', '\'"cali*"\''),
      );
      assert.ok(await inside());
      assert.doesNotMatch(await status(), /nftables/);
      await shell('nft delete table inet mine');
    });
  }

  test('chains of others that let pass, and those of other hooks, are no failure', async () => {
    await shell(`nft 'table inet mine {
      chain forward { type filter hook forward priority 10; ip saddr 192.0.2.1 drop; }
      chain input { type filter hook input priority 10; policy drop; iifname "lo" accept; }
    }'`);
    assert.ok(await inside());
    const said = await status();
    assert.match(said, / ok +nftables: chain inet mine input applies to traffic from containers/);
    assert.ok(await isWell(), await status());
    await shell('nft delete table inet mine');
  });

  test('a rule that routes by source is named, and what status says mends it', async () => {
    const address = await lab.address('app', 'web');
    const reaches = async () => {
      const ping = ['ping', '-c', '1', '-W', '2', '-I', uplinkAddresses.host, address];
      return (await lab.host.exec(ping)).status === 0;
    };
    assert.ok(await reaches());
    assert.doesNotMatch(await status(), /host routing/);
    await shell(`ip route add default via ${uplinkAddresses.router} table 77
      ip rule add from ${uplinkAddresses.host} lookup 77`);
    assert.equal(await reaches(), false);
    const said = await status();
    assert.match(said, /FAIL +host routing: .* traffic from 203\.0\.113\.2 to table 77/);
    const remedy = remedyOf(said, /for each IP pool: (ip rule .*)$/m);
    await shell(remedy.replace('POOL', '10.65.0.0/16'));
    assert.ok(await reaches());
    assert.ok(await isWell(), await status());
    await shell(`${remedy.replace('POOL', '10.65.0.0/16').replace(' add ', ' del ')}
      ip rule del from ${uplinkAddresses.host} lookup 77; ip route flush table 77`);
  });
});
