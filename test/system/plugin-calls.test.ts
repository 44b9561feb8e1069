import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { breakOffCall, type PluginAnswer } from '../lab/plugin-client.ts';

/**
 * Docker's calls straight to the socket: twice, at once, for things that are not there, without a body; and
 * what dockerd makes of our answers.
 */
describe('calls that Docker repeats, doubles or breaks off', { timeout: 600_000 }, () => {
  const NetworkID = 'a1'.repeat(32);
  const EndpointID = 'b2'.repeat(32);
  const ids = { NetworkID, EndpointID };
  const joined = { ...ids, SandboxKey: '/var/run/docker/netns/b2b2b2b2b2b2', Options: {} };
  let lab: NetworkLab;
  let poolId = '';
  let gateway = '';
  let address = '';
  before(async () => {
    lab = await startLab(
      { engine: '20.10', backend: 'nft', datastore: 'sqlite' },
      { CALICO_LOG_LEVEL: 'debug', CALICO_IPV6POOL_CIDR: 'fd00:65::/48' },
    );
  });
  after(async () => lab[Symbol.asyncDispose]());

  const accepted = async (method: string, body?: unknown): Promise<PluginAnswer['body']> => {
    const answer = await lab.call(method, body);
    assert.equal(answer.status, 200, `${method}: ${answer.text}`);
    return answer.body;
  };
  const refused = async (method: string, body: unknown, says: RegExp): Promise<void> => {
    const answer = await lab.call(method, body);
    assert.equal(answer.status, 500, answer.text);
    assert.equal(answer.body['Err'], answer.body['Error']);
    const said = String(answer.body['Err']);
    assert.match(said, says);
    const id = / \[([0-9a-f]{8})\]$/.exec(said)?.[1] ?? assert.fail(`no call id in "${said}"`);
    await logged(new RegExp(`warn call failed.* call=${id} `));
  };
  const logged = async (line: RegExp): Promise<void> => {
    assert.ok(await lab.eventually(async () => line.test(lab.host.calicoLog())), String(line));
  };
  const requestPool = (options: Readonly<Record<string, unknown>> = {}) =>
    accepted('IpamDriver.RequestPool', {
      AddressSpace: 'CalicoAddressSpace',
      Pool: '10.97.0.0/24',
      SubPool: '',
      Options: null,
      V6: false,
      ...options,
    });
  const gatewayOf = ({ Data }: PluginAnswer['body']): string =>
    typeof Data === 'object' && Data !== null && 'com.docker.network.gateway' in Data
      ? String(Data['com.docker.network.gateway'])
      : assert.fail('no gateway');
  const createNetwork = (options: object = {}) => ({
    NetworkID,
    Options: { 'com.docker.network.generic': { name: 'direct', ...options } },
    IPv4Data: [{ AddressSpace: 'CalicoAddressSpace', Pool: '10.97.0.0/24', Gateway: gateway }],
    IPv6Data: null,
  });
  const createEndpoint = (options: object = {}) => ({
    ...ids,
    Interface: { Address: address, AddressIPv6: '', MacAddress: '' },
    Options: {},
    ...options,
  });

  test('a body that is missing, broken or wrong is refused in one line that names the field', async () => {
    for (const method of [
      'CreateNetwork',
      'DeleteNetwork',
      'CreateEndpoint',
      'DeleteEndpoint',
      'Join',
      'Leave',
      'EndpointOperInfo',
      'ProgramExternalConnectivity',
      'RevokeExternalConnectivity',
    ]) {
      await refused(`NetworkDriver.${method}`, undefined, /empty body/);
    }
    for (const method of ['RequestPool', 'ReleasePool', 'RequestAddress', 'ReleaseAddress']) {
      await refused(`IpamDriver.${method}`, undefined, /empty body/);
    }
    await refused('NetworkDriver.Join', { ...joined, SandboxKey: 7 }, /SandboxKey/);
    await refused('NetworkDriver.CreateEndpoint', { NetworkID }, /EndpointID/);
    await refused('IpamDriver.RequestPool', { Pool: '10.0.0.0/33' }, /10\.0\.0\.0\/33/);
    await accepted('Plugin.Activate');
    await accepted('IpamDriver.GetCapabilities');
  });

  test('a call that nobody knows is a 404 with both texts, in the log', async () => {
    const { status, body } = await lab.call('NetworkDriver.Fly', {});
    assert.equal(status, 404);
    assert.equal(body['Err'], body['Error']);
    const id = / \[([0-9a-f]{8})\]$/.exec(String(body['Err']))?.[1] ?? assert.fail();
    await logged(new RegExp(`method=unknown call=${id} `));
  });

  test('equal requests for a pool get PoolIDs of their own; releases may be repeated', async () => {
    const [first, second] = [await requestPool(), await requestPool()];
    assert.notEqual(first['PoolID'], second['PoolID']);
    for (const body of [second, second, { PoolID: 'CalicoPoolIPv4' }]) {
      await accepted('IpamDriver.ReleasePool', { PoolID: body['PoolID'] });
    }
    poolId = String(first['PoolID']);
    gateway = gatewayOf(first);
    await accepted('IpamDriver.ReleaseAddress', { PoolID: poolId, Address: '0.0.0.0' });
    await accepted('IpamDriver.ReleaseAddress', { PoolID: poolId, Address: '::' });
    await accepted('IpamDriver.ReleaseAddress', { PoolID: poolId, Address: '10.97.0.77' });
    await accepted('IpamDriver.ReleaseAddress', { PoolID: 'CalicoPoolIPv4', Address: '10.97.0.7' });
    assert.match(await lab.calico('get', 'ippool'), /10\.97\.0\.0\/24/);
  });

  test('CreateNetwork twice with the same content is one network; with other content it is refused', async () => {
    await Promise.all([
      accepted('NetworkDriver.CreateNetwork', createNetwork()),
      accepted('NetworkDriver.CreateNetwork', createNetwork()),
    ]);
    await accepted('NetworkDriver.CreateNetwork', createNetwork());
    await refused('NetworkDriver.CreateNetwork', createNetwork({ mtu: '1300' }), /other settings/);
  });

  test('an address has one owner, also when several ask at once', async () => {
    const ask = (Address: string) =>
      lab.call('IpamDriver.RequestAddress', { PoolID: poolId, Address, Options: null });
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask('')));
    const given = answers.map(({ body }) => String(body['Address']));
    assert.equal(new Set(given).size, 20);
    const free = ['10.97.0.200', '10.97.0.100'].find((one) => !given.includes(`${one}/32`)) ?? '';
    // Docker asks and makes the endpoint under one lock of the network: these are repetitions of one call.
    const wanted = await Promise.all(Array.from({ length: 5 }, () => ask(free)));
    assert.deepEqual(new Set(wanted.map(({ body }) => body['Address'])), new Set([`${free}/32`]));
    const other = await requestPool();
    await refused(
      'IpamDriver.RequestAddress',
      { PoolID: other['PoolID'], Address: free },
      /is in use/,
    );
    await accepted('IpamDriver.ReleasePool', { PoolID: other['PoolID'] });
    for (const one of [...given.slice(1), ...given.slice(1), free]) {
      await accepted('IpamDriver.ReleaseAddress', {
        PoolID: poolId,
        Address: one.replace('/32', ''),
      });
    }
    address = given[0] ?? '';
  });

  test('CreateEndpoint answers a MAC address only if Docker gave none, and never an address', async () => {
    const [one, two] = await Promise.all([
      accepted('NetworkDriver.CreateEndpoint', createEndpoint()),
      accepted('NetworkDriver.CreateEndpoint', createEndpoint()),
    ]);
    assert.deepEqual(one, two);
    assert.match(JSON.stringify(one), /^\{"Interface":\{"MacAddress":"ca:[0-9a-f:]{14}"\}\}$/);
    const MacAddress = '02:42:ac:11:00:09';
    const withMac = createEndpoint({ Interface: { Address: address, MacAddress } });
    assert.deepEqual(await accepted('NetworkDriver.CreateEndpoint', withMac), { Interface: {} });
    await refused(
      'NetworkDriver.CreateEndpoint',
      createEndpoint({ Interface: { Address: '10.97.0.99/32' } }),
      /already exists with other addresses/,
    );
    await refused(
      'NetworkDriver.CreateEndpoint',
      { ...createEndpoint(), EndpointID: 'c3'.repeat(32) },
      /is in use by endpoint b2b2/,
    );
  });

  test('Join twice gives the same answer, and the host end is up and routed by then', async () => {
    const answers = await Promise.all([
      accepted('NetworkDriver.Join', joined),
      accepted('NetworkDriver.Join', joined),
    ]);
    assert.deepEqual(answers[0], answers[1]);
    assert.match(await lab.host.run(['ip', 'link', 'show', 'calib2b2b2b2b2b']), /[<,]UP[,>]/);
    const route = await lab.host.run(['ip', 'route', 'show', address]);
    assert.match(route, /dev calib2b2b2b2b2b proto 80/);
    // Docker does not know this endpoint, so it is in quarantine.
    assert.match((await lab.calicoResult('status')).stdout, /quarantine/);
  });

  test('ReleaseAddress before DeleteEndpoint does not free what the endpoint uses', async () => {
    await accepted('IpamDriver.ReleaseAddress', {
      PoolID: poolId,
      Address: address.replace('/32', ''),
    });
    for (let round = 0; round < 3; round++) {
      const any = { PoolID: poolId, Address: '', Options: null };
      const { Address: other } = await accepted('IpamDriver.RequestAddress', any);
      assert.notEqual(other, address);
      await accepted('IpamDriver.ReleaseAddress', {
        PoolID: poolId,
        Address: String(other).replace('/32', ''),
      });
    }
    const route = await lab.host.run(['ip', 'route', 'show', address]);
    assert.match(route, /dev calib2b2b2b2b2b proto 80/);
  });

  test('Join after Leave makes the interface anew', async () => {
    await accepted('NetworkDriver.Leave', ids);
    await accepted('NetworkDriver.Join', joined);
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.match(await lab.host.run(['ip', 'link', 'show', 'calib2b2b2b2b2b']), /[<,]UP[,>]/);
  });

  test('a port belongs to the container that starts with it, until Docker says or begins anew', async () => {
    const any = { PoolID: poolId, Address: '', Options: null };
    const { Address } = await accepted('IpamDriver.RequestAddress', any);
    const other = { NetworkID, EndpointID: 'd4'.repeat(32) };
    await accepted('NetworkDriver.CreateEndpoint', {
      ...createEndpoint({ Interface: { Address } }),
      ...other,
    });
    const SandboxKey = '/var/run/docker/netns/d4d4d4d4d4d4';
    await accepted('NetworkDriver.Join', { ...joined, ...other, SandboxKey });
    const Options = { 'com.docker.network.portmap': [{ Proto: 6, Port: 80, HostPort: 6400 }] };
    const program = 'NetworkDriver.ProgramExternalConnectivity';
    const revoke = 'NetworkDriver.RevokeExternalConnectivity';
    // Neither has a process yet, as in Docker before 28 until both are programmed.
    await accepted(program, { ...ids, Options });
    await refused(program, { ...other, Options }, /0\.0\.0\.0:6400.*port is already allocated/);
    await accepted(revoke, ids);
    await accepted(program, { ...other, Options });
    await refused(program, { ...ids, Options }, /port is already allocated/);
    await accepted('Plugin.Activate');
    await accepted(program, { ...ids, Options });
    for (const endpoint of [other, ids]) await accepted(revoke, endpoint);
    for (const method of ['Leave', 'DeleteEndpoint'])
      await accepted(`NetworkDriver.${method}`, other);
    const release = { PoolID: poolId, Address: String(Address).replace('/32', '') };
    await accepted('IpamDriver.ReleaseAddress', release);
  });

  test('Leave, DeleteEndpoint, DeleteNetwork twice leave nothing', async () => {
    for (const method of ['Leave', 'Leave', 'DeleteEndpoint', 'DeleteEndpoint']) {
      await accepted(`NetworkDriver.${method}`, ids);
    }
    for (const _ of [1, 2]) {
      await accepted('IpamDriver.ReleaseAddress', {
        PoolID: poolId,
        Address: address.replace('/32', ''),
      });
    }
    for (const _ of [1, 2]) await accepted('IpamDriver.ReleasePool', { PoolID: poolId });
    for (const _ of [1, 2]) await accepted('NetworkDriver.DeleteNetwork', { NetworkID });
    assert.ok(
      await lab.eventually(async () => !(await lab.host.run(['ip', 'link'])).includes('cali')),
    );
    assert.match(await lab.calico('get', 'workloadendpoint', '-o', 'json'), /"items": \[\]/);
    assert.doesNotMatch(await lab.calico('get', 'ippool'), /10\.97/);
    assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);
    await refused('NetworkDriver.Join', joined, /unknown network a1a1/);
  });

  test('every call of the life of a container whose answer was lost is answered alike, at once and again', async () => {
    const socket = lab.host.path('/run/docker/plugins/calico.sock');
    const made = await requestPool();
    const [pool, nextHop] = [String(made['PoolID']), gatewayOf(made)];
    const asGateway = { RequestAddressType: 'com.docker.network.gateway' };
    const endpoint = { NetworkID: 'c3'.repeat(32), EndpointID: 'd4'.repeat(32) };
    const network = { NetworkID: endpoint.NetworkID };
    const subnet = { AddressSpace: 'CalicoAddressSpace', Pool: '10.97.0.0/24', Gateway: nextHop };
    const definition = {
      ...network,
      Options: { 'com.docker.network.generic': { name: 'again' } },
      IPv4Data: [{ ...subnet, AuxAddresses: { printer: '10.97.0.5/32' } }],
      IPv6Data: null,
    };
    const ofPool = (Address: string, Options: object | null = null) => ({
      PoolID: pool,
      Address,
      Options,
    });
    const portmap = [{ Proto: 6, Port: 80, HostPort: 6401 }];
    const life: readonly (readonly [method: string, body: object])[] = [
      ['IpamDriver.GetCapabilities', {}],
      ['IpamDriver.GetDefaultAddressSpaces', {}],
      ['NetworkDriver.GetCapabilities', {}],
      ['NetworkDriver.DiscoverNew', {}],
      ['NetworkDriver.DiscoverDelete', {}],
      ['NetworkDriver.GwAllocCheck', { Options: {} }],
      ['IpamDriver.RequestAddress', ofPool('10.97.0.1', asGateway)],
      ['IpamDriver.RequestAddress', ofPool('10.97.0.5')],
      ['NetworkDriver.AllocateNetwork', definition],
      ['NetworkDriver.CreateNetwork', definition],
      ['IpamDriver.RequestAddress', ofPool('10.97.0.9')],
      ['NetworkDriver.CreateEndpoint', { ...endpoint, Interface: { Address: '10.97.0.9/32' } }],
      ['NetworkDriver.Join', { ...endpoint, SandboxKey: '/var/run/docker/netns/d4', Options: {} }],
      [
        'NetworkDriver.ProgramExternalConnectivity',
        { ...endpoint, Options: { 'com.docker.network.portmap': portmap } },
      ],
      ['NetworkDriver.EndpointOperInfo', endpoint],
      ['NetworkDriver.RevokeExternalConnectivity', endpoint],
      ['NetworkDriver.Leave', endpoint],
      ['NetworkDriver.DeleteEndpoint', endpoint],
      ['IpamDriver.ReleaseAddress', ofPool('10.97.0.9')],
      ['IpamDriver.ReleaseAddress', ofPool('10.97.0.5')],
      ['IpamDriver.ReleaseAddress', ofPool('10.97.0.1')],
      ['IpamDriver.ReleasePool', { PoolID: pool }],
      ['NetworkDriver.DeleteNetwork', network],
      ['NetworkDriver.FreeNetwork', network],
    ];
    for (const [method, body] of life) {
      await breakOffCall(socket, method, body);
      const atOnce = await Promise.all([1, 2, 3].map(() => accepted(method, body)));
      for (const answer of [...atOnce, await accepted(method, body)]) {
        assert.deepEqual(answer, atOnce[0], method);
      }
    }
    // The PoolID of a request for a pool differs each time, as two networks may ask alike; see above.
    const called = new Set([...life.map(([method]) => method), 'IpamDriver.RequestPool']);
    const sources = ['driver/network-driver.ts', 'daemon/plugin-servers.ts'].map((file) =>
      readFileSync(new URL(`../../src/${file}`, import.meta.url), 'utf8'),
    );
    const known = sources.join('').matchAll(/'((?:NetworkDriver|IpamDriver)\.[A-Za-z]+)'/g);
    assert.deepEqual(called, called.union(new Set([...known].map(([, method]) => method))));
    assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);
    assert.doesNotMatch(await lab.calico('get', 'ippool'), /10\.97/);
  });

  test('the name calico alone serves for both drivers', async () => {
    const options = ['--driver', 'calico', '--ipam-driver', 'calico'];
    await lab.docker('network', 'create', ...options, 'one');
    await lab.server('app', '--net', 'one');
    await lab.client('inside', '--net', 'one');
    assert.ok(await lab.reaches('inside', 'app'));
    assert.match(await lab.address('app', 'one'), /^10\.65\./);
    await lab.clear();
  });

  test('Docker gives up an IPv6 pool that holds a name server of the host, and says what to do', async () => {
    const resolver = (lines: string) =>
      lab.host.run(['sh', '-c', `printf '${lines}' >/etc/resolv.conf`]);
    await resolver('nameserver 192.0.2.53\\nnameserver fd00:65::53\\n');
    const create = ['network', 'create', '-d', 'calico', '--ipam-driver', 'calico-ipam', '--ipv6'];
    const said = await lab.refused(...create, 'looping');
    assert.match(said, /overlaps a name server or route of this host.*--subnet/);
    await resolver('nameserver 192.0.2.53\\n');
    // Many networks in a row are no loop.
    for (let n = 0; n < 10; n++) await lab.docker(...create, `dual${n}`);
    await lab.clear();
    assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);
  });

  test('each call is in the debug log with duration and outcome, and counted', async () => {
    const log = lab.host.calicoLog();
    assert.match(
      log,
      /debug call succeeded method=NetworkDriver\.Join call=[0-9a-f]{8} ms=\d+\.\d/,
    );
    const answered = log.match(/debug call succeeded method=NetworkDriver\.Join /g)?.length;
    const refusals = log.match(/warn call failed method=NetworkDriver\.Join /g)?.length;
    const metrics = await lab.metrics();
    const counted = (outcome: string) =>
      Number(
        new RegExp(
          `calico_docker_calls_total\\{method="NetworkDriver.Join",outcome="${outcome}"\\} (\\d+)`,
        ).exec(metrics)?.[1],
      );
    assert.equal(counted('ok'), answered);
    const refusedCount = [
      ...metrics.matchAll(/calls_total\{method="NetworkDriver.Join",outcome="([^"]+)"\} (\d+)/g),
    ].reduce((sum, [, outcome, count]) => sum + (outcome === 'ok' ? 0 : Number(count)), 0);
    assert.equal(refusedCount, refusals);
    assert.match(metrics, /calico_docker_call_seconds_count\{method="NetworkDriver.Join"\} \d+/);
  });

  test('what docker says of a failed call ends with an id that the log finds', async () => {
    const create = ['network', 'create', '-d', 'calico', '--ipam-driver', 'calico-ipam'];
    const said = await lab.refused(...create, '-o', 'colour=red', 'bad');
    const id = /\[([0-9a-f]{8})\]/.exec(said)?.[1] ?? assert.fail(said);
    await logged(new RegExp(`call failed.*call=${id} .*colour`));
  });
});
