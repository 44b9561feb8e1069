import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { Page } from '../lab/page.ts';

/** Every command of docs/networks.md and docs/profiles.md, in the order of a reader who follows both. */
describe('docs/networks.md and docs/profiles.md', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  const networks = new Page('docs/networks.md', (text) =>
    text.replaceAll('IMAGE', 'calico-test httpd -f -p 80 -h /www'),
  );
  const profiles = new Page('docs/profiles.md');
  before(async () => {
    lab = await startLab({ engine: '28.5', backend: 'nft', datastore: 'sqlite' });
  });
  after(async () => lab[Symbol.asyncDispose]());

  const shell = (command: string) => lab.host.run(['sh', '-c', command]);
  const policy = () => lab.calico('profile', 'show', 'web');

  test('a network, a published port, and who may reach it', async () => {
    await networks.run('Networks', shell);
    await networks.run('Published ports', shell);
    await networks.run('Policy for published ports', shell);
    assert.match(await policy(), /allow tcp from cidr 198\.51\.100\.0\/24 to ports 80\n.*deny tcp/);
  });

  test('a network on all hosts', async () => {
    await networks.run('A network on all hosts', shell);
    assert.doesNotMatch(await lab.docker('network', 'ls'), /shop/);
  });

  test('Profiles of a network, and of a running container', async () => {
    const before = await policy();
    await profiles.run('Commands', shell);
    assert.equal(
      await policy(),
      before.replace('tags: web', 'tags: backend, web'),
      'both rules that were added are removed',
    );
    await profiles.run('Profiles of a running container', shell);
    const [endpoint] = (await lab.status()).endpoints;
    assert.deepEqual(endpoint?.profiles, ['web']);
  });

  test('extra addresses, and how one moves', async () => {
    await networks.run('Extra addresses', shell);
    await networks.run('Extra addresses', shell);
    const wep = await lab.calico('get', 'wep');
    assert.match(wep, /lb-1 .*10\.99\.0\.200\/32/);
    assert.match(wep, /lb-2 .*10\.99\.0\.201\/32,10\.99\.0\.202\/32/);
    assert.match(wep, /lb-2 .*10\.96\.0\.100\/32/);
  });

  test('a prefix behind a container', async () => {
    await networks.run('Prefixes behind a container', shell);
    assert.match(
      await shell('ip route show 192.168.50.0/24'),
      /via 10\.\d+\.\d+\.\d+ dev cali\S+ proto 81 onlink/,
    );
    assert.match(await lab.calico('get', 'wep', '-o', 'yaml'), /- 192\.168\.50\.0\/24/);
  });

  test('each command of the pages was run', () => {
    networks.assertAllWasRun();
    profiles.assertAllWasRun();
  });
});
