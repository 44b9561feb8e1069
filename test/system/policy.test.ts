import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { unlessLong } from '../lab/long.ts';
import {
  fewLabKinds,
  kindName,
  labKinds,
  startLab,
  type LabKind,
  type NetworkLab,
} from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

for (const kind of unlessLong() === false ? labKinds : fewLabKinds)
  describe(kindName(kind), { timeout: 600_000 }, () => policySuite(kind));

/** What Profiles do to the traffic of containers. */
function policySuite(kind: LabKind): void {
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab(kind);
    await lab.tour();
  });
  after(async () => lab[Symbol.asyncDispose]());

  test('containers of one network reach each other by name, and the world by masquerade', async () => {
    assert.ok(await lab.reaches('inside', 'app'));
    assert.ok(await lab.pings('inside', '198.51.100.1'));
  });

  test('a container of another network gets in when a rule says so, at once, and no longer', async () => {
    const address = await lab.address('app', 'web');
    const probe = () => lab.reaches('outside', address);
    const words = ['allow', 'tcp', 'from', 'tag', 'other', 'to', 'ports', '8080'];
    await lab.onlyAfter({
      probe,
      droppedAt: 'app',
      change: () => lab.calico('profile', 'web', 'rule', 'add', 'inbound', ...words),
    });
    assert.equal(await lab.pings('outside', address), false, 'another protocol stays out');
    await lab.calico('profile', 'web', 'rule', 'remove', 'inbound', ...words);
    assert.ok(await lab.eventually(async () => !(await probe())));
  });

  test('a deny rule before the others is counted under its own number', async () => {
    await lab.calico(...words`profile web rule add --at 1 inbound deny tcp to ports 8080`);
    assert.ok(await lab.eventually(async () => !(await lab.reaches('inside', 'app'))));
    assert.ok((await lab.dropped('app', /inbound: Profile web, rule 1/)) > 0);
    await lab.calico('profile', 'web', 'rule', 'remove', 'inbound', '--at', '1');
    assert.ok(await lab.eventually(() => lab.reaches('inside', 'app')));
  });

  test('a tag that a Profile gets reaches its running containers', async () => {
    const address = await lab.address('app', 'web');
    await lab.onlyAfter({
      probe: () => lab.reaches('outside', address),
      droppedAt: 'app',
      change: () => lab.calico('profile', 'other', 'tag', 'add', 'web'),
    });
    await lab.calico('profile', 'other', 'tag', 'remove', 'web');
    assert.ok(await lab.eventually(async () => !(await lab.reaches('outside', address))));
  });

  test('a running container gets another Profile at once, and keeps it when Docker renames it', async () => {
    const address = await lab.address('app', 'web');
    const has = async (container: string) => {
      const { stdout } = await lab.calicoResult('container', container, 'profile', 'show');
      return new RegExp(`^${container} .* web,other$`, 'm').test(stdout);
    };
    await lab.onlyAfter({
      probe: () => lab.reaches('outside', address),
      droppedAt: 'app',
      change: () => lab.calico('container', 'app', 'profile', 'append', 'other'),
    });
    await lab.docker('rename', 'app', 'renamed');
    assert.ok(await lab.eventually(() => has('renamed')));
    assert.ok(await lab.reaches('outside', address));
    await lab.docker('rename', 'renamed', 'app');
    assert.ok(await lab.eventually(() => has('app')));
    await lab.calico('container', 'app', 'profile', 'remove', 'other');
    assert.ok(await lab.eventually(async () => !(await lab.reaches('outside', address))));
  });

  test('outbound rules hold as well', async () => {
    await lab.calico(...words`profile web rule add --at 1 outbound deny to cidr 198.51.100.0/24`);
    const probe = () => lab.pings('inside', '198.51.100.1');
    assert.ok(await lab.eventually(async () => !(await probe())));
    await lab.onlyAfter({
      probe,
      droppedAt: 'inside',
      change: () => lab.calico('profile', 'web', 'rule', 'remove', 'outbound', '--at', '1'),
    });
  });

  test('a container cannot send from an address that is not its own', async () => {
    const address = await lab.address('app', 'web');
    await lab.client('spoofer', '--net', 'web', '--cap-add', 'NET_ADMIN');
    assert.ok(await lab.pings('spoofer', address));
    await lab.network('elsewhere', '--subnet', '10.99.0.0/24');
    await lab.docker('exec', 'spoofer', 'ip', 'addr', 'add', '10.99.0.99/32', 'dev', 'eth0');
    const ping = ['ping', '-c', '1', '-W', '1', '-I', '10.99.0.99', address];
    await lab.onlyAfter({
      probe: async () => (await lab.host.exec(['docker', 'exec', 'spoofer', ...ping])).status === 0,
      droppedAt: 'spoofer',
      change: () => lab.docker('network', 'connect', '--ip', '10.99.0.99', 'elsewhere', 'spoofer'),
    });
    assert.ok((await lab.dropped('spoofer', /: spoofed source/)) > 0);
  });

  test('what no Profile decides is dropped and counted as well', async () => {
    const pid = await lab.docker('inspect', '-f', '{{.State.Pid}}', 'inside');
    const send = (...argv: readonly string[]) =>
      lab.host.run(['nsenter', '-t', pid, '-n', '--', ...argv]);
    const counts = async (container: string, rule: RegExp, work: () => Promise<unknown>) => {
      const before = await lab.dropped(container, rule);
      await work();
      return (await lab.dropped(container, rule)) - before;
    };
    const datagram = (port: number) => () =>
      send('bash', '-c', `echo x >/dev/udp/198.51.100.1/${port}`);
    assert.equal(await counts('inside', /./, datagram(4790)), 0);
    assert.equal(await counts('inside', /VXLAN or IPIP/, datagram(4789)), 1);
    // An answer that nobody asked for.
    const reply = `socket(S, PF_INET, SOCK_RAW, 1);
      send(S, pack("C8", 0, 0, 255, 255, 0, 0, 0, 0), 0, sockaddr_in(0, inet_aton("198.51.100.1")));`;
    assert.equal(
      await counts('inside', /outbound: invalid conntrack state/, () =>
        send('perl', '-MSocket', '-e', reply),
      ),
      1,
    );
    const stray = `ip netns add stray; ip link add calistray up type veth peer name eth0 netns stray
      ip -n stray address add 192.0.2.1/24 dev eth0; ip -n stray link set eth0 up
      ip netns exec stray bash -c 'echo x >/dev/udp/192.0.2.9/9'
      ip -n stray neigh add 192.0.2.2 lladdr $(cat /sys/class/net/calistray/address) dev eth0
      ip netns exec stray bash -c 'echo x >/dev/udp/192.0.2.2/9'; ip netns del stray`;
    assert.ok((await counts('-', /spoofed source/, () => lab.host.run(['sh', '-c', stray]))) > 0);
  });

  test('containers choose Profiles and labels by labels, in force from their first packet', async () => {
    const address = await lab.address('app', 'web');
    await lab.calico('profile', 'add', 'monitors');
    await lab.calico(
      ...words`profile web rule add inbound allow from selector ${"role == 'probe'"}`,
    );
    const fetch = `wget -qO- http://${address}:8080/`;
    const once = (...options: readonly string[]) =>
      lab.host.exec(
        words`docker run --rm --net other ${options} calico-test sh -c ${`timeout 2 ${fetch}; exit $?`}`,
      );
    assert.notEqual((await once()).status, 0);
    const labelled = await once('--label', 'org.projectcalico.label.role=probe');
    assert.equal(labelled.stdout.trim(), 'hello');
    await lab.calico(
      ...words`profile web rule remove inbound allow from selector ${"role == 'probe'"}`,
    );
    await lab.calico(...words`profile web rule add inbound allow from tag monitors`);
    assert.notEqual((await once()).status, 0);
    const profiled = await once('--label', 'org.projectcalico.profile=monitors');
    assert.equal(profiled.stdout.trim(), 'hello');
    await lab.calico(...words`profile web rule remove inbound allow from tag monitors`);
  });

  test('host and container reach each other as documented', async () => {
    assert.ok(await lab.hostReaches(await lab.address('app', 'web')));
    assert.ok(await lab.pings('inside', '203.0.113.2'));
  });

  test('rules that are flushed are back within a second', async () => {
    const address = await lab.address('app', 'web');
    await lab.host.run(['iptables', '-F']);
    const isBack = async () => {
      const rules = await lab.host.run(['iptables', '-S']);
      return /-A FORWARD .*-j cali-FORWARD/.test(rules) && rules.includes('-A cali-tw-web');
    };
    assert.ok(await lab.eventually(isBack));
    assert.ok(await lab.reaches('inside', 'app'));
    assert.equal(await lab.reaches('outside', address), false);
  });

  test('a killed daemon loses nothing, and finds what is there when it is back', async () => {
    const pid = await lab.docker('inspect', '-f', '{{.State.Pid}}', 'inside');
    const address = await lab.address('app', 'web');
    // A hundred packets a second, from before the first kill until after the last start.
    const stream = lab.host.spawn(
      `nsenter --target ${pid} --net ping -q -i 0.01 ${address}`.split(' '),
    );
    await lab.host.killCalico();
    assert.ok(await lab.reaches('inside', 'app'));
    assert.equal(await lab.reaches('outside', await lab.address('app', 'web')), false);
    const chains = async () =>
      (await lab.host.run(['iptables-save']))
        .split('\n')
        .filter((line) => line.includes('cali'))
        .toSorted()
        .join('\n');
    await lab.host.startCalico(lab.environment);
    await lab.eventually(async () => (await lab.calicoResult('status')).status === 0);
    const before = await chains();
    await lab.host.killCalico();
    await lab.host.startCalico(lab.environment);
    assert.ok(await lab.eventually(async () => (await lab.calicoResult('status')).status === 0));
    assert.equal(await chains(), before);
    stream.signal('SIGINT');
    await stream.exited;
    const counts = /(\d+) packets transmitted, (\d+) received/.exec(stream.output());
    const [sent, received] = [Number(counts?.[1]), Number(counts?.[2])];
    assert.ok(sent > 20, stream.output());
    // The very last one may have been on its way.
    assert.ok(received >= sent - 1, stream.output());
    assert.ok(await lab.reaches('inside', 'app'));
    await lab.docker('run', '--rm', '--net', 'web', 'calico-test', 'true');
  });

  test('when all is removed nothing is left', async () => {
    await lab.clear();
    const links = await lab.host.run(['ip', '-o', 'link']);
    assert.ok(!links.includes('cali'), links);
    assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);
    const endpoints = await lab.calico('get', 'workloadendpoint', '-o', 'json');
    assert.match(endpoints, /"items": \[\]/);
    const routes = await lab.host.run(['ip', 'route', 'show', 'proto', '80']);
    assert.equal(routes.trim(), '');
  });
}
