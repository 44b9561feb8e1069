import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';

/**
 * What was wrong with Calico's Docker plugin of 2019, one test each, so that nobody who comes from it meets
 * one of these again. The host's name in the datastore is not the kernel's: several of them came from that.
 * The one about a pinned version of Docker's API (j) is in addresses.test.ts, on an engine that refuses it.
 */
describe('the bugs of the 2019 plugin', { timeout: 600_000 }, () => {
  const node = 'rack-7';
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab(
      { engine: '20.10', backend: 'nft', datastore: 'etcd' },
      { NODENAME: node, CALICO_IPV4POOL_CIDR: '10.65.0.0/16' },
    );
    await lab.tour();
  });
  after(async () => lab[Symbol.asyncDispose]());

  test('a. networks need no cluster store and no swarm: the scope is local', async () => {
    const { body } = await lab.call('NetworkDriver.GetCapabilities');
    assert.equal(body['Scope'], 'local');
    assert.equal(body['ConnectivityScope'], 'global');
    assert.equal(
      await lab.docker('network', 'inspect', '-f', '{{.Scope}} {{.Driver}}', 'web'),
      'local calico',
    );
  });

  test('b. options of docker network create are taken and do what they say', async () => {
    const options = ['-o', 'mtu=1300', '-o', 'label.tier=front', '--label', 'owner=me'];
    await lab.network('inner', '--internal', ...options);
    await lab.client('kept', '--net', 'inner');
    assert.match(await lab.docker('exec', 'kept', 'ip', 'link', 'show', 'eth0'), /mtu 1300/);
    assert.match(await lab.calico('get', 'workloadendpoint', '-o', 'yaml'), /tier: front/);
    assert.match(await lab.docker('exec', 'inside', 'ip', 'route'), /^default/m);
    assert.doesNotMatch(await lab.docker('exec', 'kept', 'ip', 'route'), /^default/m);
    await lab.docker('rm', '-f', 'kept');
    await lab.docker('network', 'rm', 'inner');
  });

  test('c. a second network on the same pool leaves the first one working', async () => {
    await lab.network('first', '--subnet', '10.99.0.0/24');
    await lab.network('second', '--subnet', '10.99.0.0/24');
    await lab.server('f1', '--net', 'first');
    await lab.docker('network', 'rm', 'second');
    await lab.client('f2', '--net', 'first');
    assert.ok(await lab.reaches('f2', 'f1'));
    await lab.docker('rm', '-f', 'f1', 'f2');
    await lab.docker('network', 'rm', 'first');
  });

  test('d. a network without --subnet gives addresses of the default pool', async () => {
    assert.match(await lab.address('app', 'web'), /^10\.65\./);
  });

  test('e. containers of one network reach each other without any label', async () => {
    assert.ok(await lab.reaches('inside', 'app'));
    const words = ['allow', 'from', 'tag', 'other'];
    const address = await lab.address('app', 'web');
    await lab.onlyAfter({
      probe: () => lab.reaches('outside', address),
      droppedAt: 'app',
      change: () => lab.calico('profile', 'web', 'rule', 'add', 'inbound', ...words),
    });
    await lab.calico('profile', 'web', 'rule', 'remove', 'inbound', ...words);
  });

  test('f. a node name that is not the host name is used by every call', async () => {
    assert.notEqual(await lab.host.run(['hostname']), node);
    assert.match(await lab.calico('get', 'workloadendpoint', '-o', 'yaml'), /node: rack-7/);
    assert.match(await lab.calico('get', 'node'), /^rack-7/m);
    await lab.docker('restart', '-t', '0', 'inside');
    assert.ok(await lab.reaches('inside', 'app'));
  });

  test('g. an endpoint is known by the name of its container', async () => {
    assert.match(await lab.calico('get', 'workloadendpoint', '-o', 'yaml'), /workload: app/);
  });

  test('h. every address says whose it is, and has a handle', async () => {
    const address = await lab.address('app', 'web');
    assert.match(await lab.calico('ipam', 'show', '--ip', address), /network web.*on host rack-7/s);
    const handles = lab.etcd?.etcdctl('get', '--prefix', '--keys-only', '/calico/ipam/v2/handle/');
    assert.match(handles ?? '', new RegExp(`docker\\.rack-7\\.${address.replaceAll('.', '-')}`));
  });

  test('i. labels are in force for the first packet', async () => {
    const url = `http://${await lab.address('app', 'web')}:8080/`;
    const once = async (...options: readonly string[]) => {
      const run = ['docker', 'run', '--rm', '--net', 'other', ...options, 'calico-test'];
      // In a shell, as the first process of a container ignores the signal of timeout.
      const fetch = ['sh', '-c', `timeout 1 wget -qO- ${url}; exit $?`];
      const { stdout } = await lab.host.exec([...run, ...fetch]);
      return stdout.trim() === 'hello';
    };
    const words = ['allow', 'from', 'selector', "role == 'probe'"];
    await lab.calico('profile', 'web', 'rule', 'add', 'inbound', ...words);
    assert.ok(await once('--label', 'org.projectcalico.label.role=probe'));
    const before = await lab.dropped('app');
    assert.equal(await once(), false);
    assert.ok((await lab.dropped('app')) > before);
    await lab.calico('profile', 'web', 'rule', 'remove', 'inbound', ...words);
  });

  test('k. a container without IPv6 starts on an IPv4 network of a host that has IPv6', async () => {
    const off = ['--sysctl', 'net.ipv6.conf.all.disable_ipv6=1'];
    await lab.client('plain', '--net', 'web', ...off);
    assert.ok(await lab.reaches('plain', 'app'));
    assert.equal((await lab.docker('exec', 'plain', 'ip', '-6', 'address')).trim(), '');
    await lab.docker('rm', '-f', 'plain');
  });

  test('l. networks have next hops of their own, so one container joins two', async () => {
    const gateway = (name: string) =>
      lab.docker('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Gateway}}', name);
    assert.notEqual(await gateway('web'), await gateway('other'));
    await lab.docker('network', 'connect', 'web', 'outside');
    assert.ok(await lab.eventually(() => lab.reaches('outside', 'app')));
    await lab.docker('network', 'disconnect', 'web', 'outside');
    assert.equal(await lab.reaches('outside', await lab.address('app', 'web')), false);
  });

  test('m. Leave and DeleteEndpoint of what is gone succeed', async () => {
    const NetworkID = await lab.docker('network', 'inspect', '-f', '{{.Id}}', 'web');
    const unknown = { NetworkID, EndpointID: 'f'.repeat(64) };
    for (const method of ['Leave', 'Leave', 'DeleteEndpoint', 'DeleteEndpoint']) {
      assert.equal((await lab.call(`NetworkDriver.${method}`, unknown)).status, 200, method);
    }
  });

  test('n. docker network rm takes Profile, pool and reservation with it', async () => {
    const before = await lab.calico('get', 'ippool');
    await lab.network('brief', '--subnet', '10.98.0.0/24', '--gateway', '10.98.0.1');
    const profiles = () => lab.calico('get', 'profile');
    assert.ok(await lab.eventually(async () => /^brief/m.test(await profiles())));
    assert.notEqual(await lab.calico('get', 'ippool'), before);
    await lab.docker('network', 'rm', 'brief');
    assert.doesNotMatch(await profiles(), /^brief/m);
    assert.equal(await lab.calico('get', 'ippool'), before);
    assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);
  });
});
