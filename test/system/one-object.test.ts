import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, afterEach, before, describe, test } from 'node:test';
import { parseAddress } from '../../src/ip/address.ts';
import { parseCidr } from '../../src/ip/cidr.ts';
import { parseSelector } from '../../src/model/selector/parse.ts';
import { selectorId } from '../../src/model/selector/canonical.ts';
import { selectorSet } from '../../src/ruleset/names.ts';
import { endpoint, endpointId, here, KernelAgent, pool, profile } from '../lab/kernel-agent.ts';
import { eventually } from '../lab/poll.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();
after(() => namespace[Symbol.dispose]());

/** One object that the kernel takes no part of is named, and holds up nothing else. */
describe('one object that the kernel refuses', { timeout: 600_000 }, () => {
  let lab: KernelAgent;
  before(async () => {
    lab = await KernelAgent.start('nft');
    await lab.write((draft) => {
      draft.put(
        'Profile',
        'web',
        profile('web', [{ action: 'Allow', source: { selector: 'has(web)' } }]),
      );
    });
  });
  after(async () => lab[Symbol.asyncDispose]());

  let joined = 0;
  /** A container comes, gets its policy at once, and goes. */
  afterEach(async () => {
    const number = ++joined;
    const facts = {
      name: `good${number}`,
      networks: [`10.65.0.${number}/32`],
      profiles: ['web'],
      interfaceName: `cali00good${number}`,
    };
    await lab.join(facts);
    assert.match(
      sh('ip route show proto 80'),
      new RegExp(`^10\\.65\\.0\\.${number} dev cali00good${number}`, 'm'),
    );
    assert.match(sh('ipset list cali40workloads'), new RegExp(`10\\.65\\.0\\.${number},`));
    await lab.write((draft) => {
      const source = { selector: `name == "n${number}"` };
      draft.put('Profile', 'web', profile('web', [{ action: 'Allow', source }]));
    });
    await lab.settled();
    assert.match(sh('iptables-nft -S cali-pri-web'), /match-set cali40s/);
    await lab.leave(facts);
  });

  /** What rules of a Profile say that allow, and all that let a packet go on. */
  const allows = /-g cali-allow$/m;
  const anyVerdict = /-g cali-(allow|pass)|RETURN/;
  const sh = (script: string) => execFileSync('sh', ['-c', script], { encoding: 'utf8' });
  const members = (set: string) =>
    sh(`ipset list ${set}`)
      .split('Members:\n')[1]
      ?.split('\n')
      .filter((line) => line !== '')
      .toSorted() ?? [];
  const failures = () => lab.agent.health.failures.map(({ what }) => what);
  const status = () =>
    lab
      .status()
      .checks.filter(({ ok }) => !ok)
      .map(({ name, detail }) => `${name}: ${detail}`);

  test('all addresses are two halves in a set of networks, and a pool of one half is another matter', async () => {
    await lab.write((draft) => {
      draft.put('IPPool', 'all', pool('all', parseCidr('0.0.0.0/0')));
      draft.put('IPPool', 'all6', pool('all6', parseCidr('::/0')));
      draft.put('IPPool', 'half', pool('half', parseCidr('128.0.0.0/1')));
    });
    await lab.settled();
    assert.deepEqual(members('cali40all-ipam-pools'), ['0.0.0.0/1', '128.0.0.0/1']);
    assert.deepEqual(members('cali60masq-ipam-pools'), ['8000::/1', '::/1']);
    await lab.write((draft) => draft.remove('IPPool', 'all'));
    await lab.settled();
    assert.deepEqual(members('cali40all-ipam-pools'), ['128.0.0.0/1']);
    assert.deepEqual(failures(), []);
    await lab.write((draft) => {
      for (const name of ['all6', 'half']) draft.remove('IPPool', name);
    });
    await lab.settled();
    assert.deepEqual(members('cali60all-ipam-pools'), []);
  });

  test('two pools of one network: it stays until both are gone', async () => {
    await lab.write((draft) => {
      for (const name of ['one', 'two'])
        draft.put('IPPool', name, pool(name, parseCidr('10.7.0.0/16')));
    });
    await lab.write((draft) => draft.remove('IPPool', 'one'));
    await lab.settled();
    assert.deepEqual(members('cali40masq-ipam-pools'), ['10.7.0.0/16']);
    await lab.write((draft) => draft.remove('IPPool', 'two'));
    await lab.settled();
    assert.deepEqual(members('cali40masq-ipam-pools'), []);
  });

  test("an endpoint of this host with a network takes no route of the host's, and is named", async () => {
    sh(
      'ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up; ip addr add 192.0.2.1/24 dev up0; ip route add default via 192.0.2.2',
    );
    const host = sh('ip route show | grep -v cali');
    for (const [index, network] of ['0.0.0.0/0', '192.0.2.2/32'].entries()) {
      if (network.endsWith('/32')) sh(`ip route add ${network} dev up0`);
      const facts = {
        name: `wide${index}`,
        networks: [network, `10.66.0.${index + 1}`],
        profiles: ['web'],
        interfaceName: `cali00wide${index}`,
      };
      await assert.rejects(lab.join(facts), /not programmed yet: route to/);
      assert.deepEqual(failures(), [`route to ${network}`]);
      assert.match(
        status().join('\n'),
        new RegExp(`dataplane: route to ${network} .endpoint wide${index} on here`),
      );
      assert.equal(sh('ip route show | grep -v "cali\\|^192.0.2.2 "'), host);
      assert.doesNotMatch(sh('ipset list cali40workloads'), /\/\d/);
      assert.match(
        sh('ip route'),
        new RegExp(`10\\.66\\.0\\.${index + 1} dev`),
        'its other address has its route',
      );
      await lab.leave(facts);
      await lab.settled();
      assert.deepEqual(failures(), []);
    }
    sh('ip route del 192.0.2.2/32 dev up0');
  });

  test("a next hop that is an address of the host's own: the address stays the host's", async () => {
    const network = {
      id: 'n1',
      node: here,
      ipam: 'calico' as const,
      internal: false,
      ipv4: true,
      ipv6: false,
      subnets: [],
      options: {},
      nextHop4: parseAddress('192.0.2.1'),
    };
    const ofHost = () => sh('ip route show table local | grep " 192.0.2.1 "');
    const before = ofHost();
    await lab.write((draft) => draft.put('DockerNetwork', `${here}/n1`, network));
    await lab.settled();
    assert.equal(ofHost(), before);
    await lab.write((draft) => draft.remove('DockerNetwork', `${here}/n1`));
    await lab.settled();
    assert.equal(ofHost(), before);
  });

  test('a set of ours that somebody made of another type, and that a rule of theirs names', async () => {
    const source = { selector: 'has(strange)' };
    const strange = profile('strange', [{ action: 'Allow', source }]);
    await lab.write((draft) => draft.put('Profile', 'strange', strange));
    const facts = {
      name: 'strange',
      networks: ['10.65.9.1'],
      profiles: ['strange'],
      interfaceName: 'cali00strange',
    };
    await lab.join(facts);
    const set = /cali40s\S+/.exec(sh('iptables-nft -S cali-pri-strange'))?.[0] ?? assert.fail();
    await lab.leave(facts);
    lab.agent.managers.policy.engine.dropIdle();
    assert.ok(
      await eventually(() => !sh('ipset list -n').includes(set)),
      'removed with the last that uses it',
    );
    sh(`ipset create ${set} hash:ip,port; iptables-nft -A INPUT -m set --match-set ${set} src,src`);
    await lab.join(facts).catch(() => undefined);
    assert.ok(
      await eventually(() => failures().includes(`address set ${set}`)),
      status().join('\n'),
    );
    assert.match(status().join('\n'), /Profile strange/);
    sh(`iptables-nft -D INPUT -m set --match-set ${set} src,src`);
    assert.ok(await eventually(() => failures().length === 0), status().join('\n'));
    await lab.settled();
    assert.match(sh('iptables-nft -S cali-pri-strange'), new RegExp(`match-set ${set} src`));
    await lab.leave(facts);
  });

  test('a full set that a Deny rule looks into: its Profile denies everything, and nothing else does', async () => {
    const guard = profile('guard', [
      { action: 'Deny', source: { selector: 'has(bad)' } },
      { action: 'Allow' },
    ]);
    const set = selectorSet(4, selectorId(parseSelector('has(bad)')));
    sh(`ipset create ${set} hash:net family inet maxelem 1`);
    const facts = {
      name: 'guarded',
      networks: ['10.65.8.1'],
      profiles: ['guard'],
      interfaceName: 'cali00guarded',
    };
    const bad = (name: string, network: string) =>
      endpoint({
        name,
        node: 'there',
        networks: [network],
        profiles: [],
        interfaceName: 'cali1',
        labels: { bad: '' },
      });
    await lab.write((draft) => {
      draft.put('Profile', 'guard', guard);
      draft.put('WorkloadEndpoint', endpointId('bad1'), bad('bad1', '10.9.0.1'));
    });
    await lab.join(facts);
    assert.match(sh('iptables-nft -S cali-pri-guard'), allows, 'it lets pass');
    await lab.write((draft) => {
      draft.put('WorkloadEndpoint', endpointId('bad2'), bad('bad2', '10.9.0.2'));
    });
    await lab.settled();
    assert.deepEqual(failures(), [`member 10.9.0.2/32 of the address set ${set}`]);
    const said = status().join('\n');
    assert.match(said, /dataplane: member 10\.9\.0\.2\/32 .*endpoint bad2 on there.*HASH_FULL/);
    assert.match(said, /Profile guard: ingress rule 1: member 10\.9\.0\.2\/32/);
    const command = await lab.statusCommand();
    assert.equal(command.status, 1);
    assert.match(command.text, /^calico-cnm 0 on here, up since \S+: degraded$/m);
    assert.match(
      command.text,
      /^ +FAIL +dataplane: member 10\.9\.0\.2\/32 of the address set \S+ \(endpoint bad2 on there\): .*HASH_FULL.*\n +Change or delete the object\. The daemon retries automatically; everything else is programmed\.$/m,
    );
    assert.match(command.text, /^ +FAIL +Profile guard: ingress rule 1: member 10\.9\.0\.2\/32/m);
    assert.match(command.text, /^endpoint guarded .* ready$/m);
    assert.doesNotMatch(sh('iptables-nft -S cali-pri-guard'), anyVerdict);
    assert.match(sh('iptables-nft -S cali-pri-web'), allows);
    await lab.write((draft) => draft.remove('WorkloadEndpoint', endpointId('bad1')));
    assert.ok(await eventually(() => failures().length === 0), status().join('\n'));
    await lab.settled();
    assert.match(sh('iptables-nft -S cali-pri-guard'), allows);
    assert.equal((await lab.statusCommand()).status, 0);
    await lab.leave(facts);
  });

  test('the log tells of each thing once, and when it is mended', () => {
    const told = lab.log.filter((line) => line.includes('dataplane apply failed'));
    assert.equal(new Set(told.map((line) => line.slice(25))).size, told.length, told.join(''));
    assert.ok(lab.log.some((line) => line.includes('dataplane apply succeeded again')));
  });
});
