import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { kindName, startLab, type LabKind, type NetworkLab } from '../lab/network-lab.ts';
import { checkout } from '../lab/built.ts';
import { uplinkAddresses } from '../lab/machine.ts';
import type { BackgroundProcess } from '../lab/process.ts';
import { unlessLong } from '../lab/long.ts';
import { words } from '../lab/words.ts';

const kinds: readonly LabKind[] = [
  { engine: '20.10', backend: 'legacy', datastore: 'sqlite' },
  { engine: '28.5', backend: 'nft', datastore: 'sqlite' },
];

for (const kind of kinds) describe(kindName(kind), { timeout: 800_000 }, () => portsSuite(kind));

const talk = [`${checkout}/node_modules/.bin/node`, `${checkout}/test/lab/talk.ts`];
const router = ['ip', 'netns', 'exec', 'router'];
const { host: hostAddress, hostV6, router: routerAddress, routerV6, far } = uplinkAddresses;

/** Published ports: who reaches them, who decides, and what becomes of them. */
function portsSuite(kind: LabKind): void {
  let lab: NetworkLab;

  /** Puts a command into a container's network. */
  const inside = async (container: string): Promise<readonly string[]> => {
    const pid = await lab.docker('inspect', '-f', '{{.State.Pid}}', container);
    return ['nsenter', `--net=/proc/${pid}/ns/net`];
  };
  /** What a server says to a client that asks; nothing if it does not answer. */
  const ask = async (
    from: readonly string[],
    protocol: 'tcp' | 'udp',
    ...to: readonly [address: string, port: number]
  ): Promise<string> => {
    const argv = [...from, ...talk, 'ask', protocol, to[0], String(to[1])];
    return (await lab.host.exec(argv)).stdout;
  };
  const answers = async (...asked: Parameters<typeof ask>) => (await ask(...asked)) !== '';
  /** Serves TCP and UDP on port 80 of a container; its answers begin with the container's name. */
  const serve = async (container: string): Promise<void> => {
    const enter = await inside(container);
    lab.host.spawn([...enter, ...talk, 'serve', '80', container]);
    assert.ok(await lab.eventually(() => answers(enter, 'tcp', '127.0.0.1', 80)));
  };
  const published = async (name: string, ...options: readonly string[]): Promise<void> => {
    await lab.client(name, ...options);
    await serve(name);
  };
  const counter = async (table: string, text: string): Promise<number> => {
    const rules = await lab.host.run(['iptables-save', '-c', '-t', table]);
    const line = rules.split('\n').find((rule) => rule.includes(text));
    return Number(/^\[(\d+):/.exec(line ?? '')?.[1] ?? Number.NaN);
  };
  const isWell = () => lab.eventually(async () => (await lab.calicoResult('status')).status === 0);

  before(async () => {
    lab = await startLab(kind);
    await lab.network('web', '--ipv6');
    await lab.network('other', '--ipv6');
    await lab.network('plain');
    await published('app', '--net', 'web', '-p', '8080:80', '-p', '8080:80/udp');
    await lab.client('stranger', '--net', 'other');
  });
  after(async () => lab[Symbol.asyncDispose]());

  // The first of all, as sockets that relay for [::1] may have ports of the second range for a minute.
  test('ranges as large as people use them are published, and go as a whole', async () => {
    const isShort = kind.engine === '20.10' && unlessLong() !== false;
    for (const [range, first, last] of [
      ['10000-20000', 10_000, 20_000],
      ...(isShort ? [] : [['49152-65535', 49_152, 65_535] as const]),
    ] as const) {
      await lab.client('media', '--net', 'plain', '-p', `${range}:${range}/udp`);
      const enter = await inside('media');
      for (const port of [first, last]) {
        lab.host.spawn([...enter, ...talk, 'serve', String(port), 'media']);
        const isThere = () => answers(router, 'udp', hostAddress, port);
        assert.ok(await lab.eventually(isThere), `${port}`);
      }
      const lines = (await lab.calico('ports', 'media')).trim().split('\n');
      assert.equal(lines.length, last - first + 1);
      await lab.docker('rm', '-f', 'media');
      await lab.docker('run', '--rm', '-p', `${first}:80/udp`, 'calico-test', 'true');
    }
    if (isShort) return;
    // Of each port two sockets, as the network has both families.
    const most = ['run', '--rm', '--net', 'web', '-p', '1000-65000:1000-65000/udp'];
    const refused = await lab.host.exec(['docker', ...most, 'calico-test', 'true'], {
      timeoutMs: 300_000,
    });
    if (refused.status !== 0) assert.match(refused.stderr, /raise LimitNOFILE/);
    assert.ok(await isWell());
  });

  test('clients outside and other containers get an answer under their own address', async () => {
    const stranger = await inside('stranger');
    const own = await lab.address('stranger', 'other');
    const own6 = await lab.address6('stranger', 'other');
    for (const protocol of ['tcp', 'udp'] as const) {
      assert.equal(await ask(router, protocol, hostAddress, 8080), `app ${routerAddress}`);
      assert.equal(await ask(router, protocol, hostV6, 8080), `app ${routerV6}`);
      assert.equal(await ask(stranger, protocol, hostAddress, 8080), `app ${own}`);
      assert.equal(await ask(stranger, protocol, hostV6, 8080), `app ${own6}`);
    }
  });

  test('the host gets an answer on each of its addresses, 127.0.0.1 and ::1 too', async () => {
    for (const protocol of ['tcp', 'udp'] as const) {
      for (const address of [hostAddress, hostV6, '127.0.0.1', '::1']) {
        assert.match(await ask([], protocol, address, 8080), /^app /, `${protocol} ${address}`);
      }
    }
  });

  test('a container that calls its own published port gets an answer', async () => {
    const self = await inside('app');
    for (const protocol of ['tcp', 'udp'] as const) {
      assert.equal(await ask(self, protocol, hostAddress, 8080), `app ${hostAddress}`);
      assert.equal(await ask(self, protocol, hostV6, 8080), `app ${hostV6}`);
    }
  });

  test('a broadcast to a published UDP port reaches no container and is counted; nothing else is', async () => {
    const count = () => lab.dropped('app', /not delivered by published port 0\.0\.0\.0:8080\/udp/);
    assert.equal(await count(), 0);
    const send = `
      const socket = require('node:dgram').createSocket('udp4');
      socket.bind(() => {
        socket.setBroadcast(true);
        const once = (left) => left === 0
          ? socket.close()
          : socket.send('x', 8080, '203.0.113.255', () => once(left - 1));
        once(20);
      });`;
    await lab.host.run([...router, talk[0] ?? '', '-e', send]);
    assert.ok(await lab.eventually(async () => (await count()) === 20), `${await count()}`);
    assert.match(await lab.calico('status'), /^app +inbound: not delivered by .* 20 +-$/m);
  });

  test("whoever speaks to the container's own address needs a rule", async () => {
    const address = await lab.address('app', 'web');
    const route = ['ip', '-n', 'router', 'route', 'add', `${address}/32`, 'via', hostAddress];
    await lab.host.run(route);
    const rule = ['inbound', 'allow', 'tcp', 'from', 'cidr', `${routerAddress}/32`];
    await lab.onlyAfter({
      probe: () => answers(router, 'tcp', address, 80),
      droppedAt: 'app',
      change: () => lab.calico('profile', 'web', 'rule', 'add', ...rule),
    });
    await lab.calico('profile', 'web', 'rule', 'remove', ...rule);
    assert.ok(await lab.eventually(async () => !(await answers(router, 'tcp', address, 80))));
    assert.ok(await answers(router, 'tcp', hostAddress, 8080));
  });

  test('a rule restricts a published port to some clients: the first match decides', async () => {
    const rules = [
      ['allow', 'tcp', 'from', 'cidr', `${far}/32`, 'to', 'ports', '80'],
      ['deny', 'tcp', 'to', 'ports', '80'],
    ];
    for (const rule of rules) await lab.calico('profile', 'web', 'rule', 'add', 'inbound', ...rule);
    const probe = () => answers(router, 'tcp', hostAddress, 8080);
    assert.ok(await lab.eventually(async () => !(await probe())));
    await lab.onlyAfter({
      probe,
      droppedAt: 'app',
      change: () =>
        lab.host.run(words`ip -n router route replace 203.0.113.0/24 dev downlink src ${far}`),
    });
    assert.equal(await ask(router, 'tcp', hostAddress, 8080), `app ${far}`);
    const back = ['203.0.113.0/24', 'dev', 'downlink', 'src', routerAddress];
    await lab.host.run(['ip', '-n', 'router', 'route', 'replace', ...back]);
    for (const rule of rules)
      await lab.calico('profile', 'web', 'rule', 'remove', 'inbound', ...rule);
    assert.ok(await lab.eventually(() => answers(router, 'tcp', hostAddress, 8080)));
  });

  test('with -o published=policy only a rule lets clients in', async () => {
    await lab.network('strict', '-o', 'published=policy');
    await published('strict', '--net', 'strict', '-p', '8090:80');
    await lab.onlyAfter({
      probe: () => answers(router, 'tcp', hostAddress, 8090),
      droppedAt: 'strict',
      change: () => lab.calico(...words`profile strict rule add inbound allow tcp to ports 80`),
    });
    assert.match(await ask([], 'tcp', '127.0.0.1', 8090), /^strict /);
    await lab.docker('rm', '-f', 'strict');
  });

  test('a port on 127.0.0.1 is for the host alone, also when a neighbour sends 127.0.0.0/8 to it', async () => {
    await published('local', '--net', 'web', '-p', '127.0.0.1:9090:80', '-p', '[::1]:9091:80');
    assert.match(await ask([], 'tcp', '127.0.0.1', 9090), /^local /);
    assert.match(await ask([], 'tcp', '::1', 9091), /^local /);
    assert.equal(await answers(router, 'tcp', hostAddress, 9090), false);
    assert.equal(await answers(router, 'tcp', hostV6, 9091), false);
    const inRouter = (command: string) => lab.host.run([...router, 'sh', '-ec', command]);
    await inRouter(`sysctl -qw net.ipv4.conf.all.route_localnet=1
      ip route del local 127.0.0.0/8 dev lo table local
      ip route del local 127.0.0.1 dev lo table local
      ip route add 127.0.0.0/8 via ${hostAddress} src ${routerAddress}`);
    const skipped = '-A cali-PREROUTING -d 127.0.0.0/8';
    const seen = await counter('nat', skipped);
    assert.equal(await answers(router, 'tcp', '127.0.0.1', 9090), false);
    assert.ok((await counter('nat', skipped)) > seen, 'the packets must have arrived');
    // The same packets reach the container once somebody translates them: it answers.
    const address = await lab.address('local', 'web');
    const rules = (verb: string) =>
      lab.host.run([
        'sh',
        '-ec',
        ['CONNMARK --set-mark 0x200000/0x200000', `DNAT --to-destination ${address}:80`]
          .toReversed()
          .map(
            (to) => `iptables -t nat ${verb} PREROUTING -d 127.0.0.1 -p tcp --dport 9090 -j ${to}`,
          )
          .join('\n'),
      ]);
    const flows = () =>
      lab.host.run(['conntrack', '-L', '-p', 'tcp', '-s', routerAddress, '-d', '127.0.0.1']);
    assert.equal(await flows(), '');
    await rules('-I');
    await answers(router, 'tcp', '127.0.0.1', 9090);
    assert.match(await flows(), /SYN_RECV/);
    await rules('-D');
    await inRouter(`ip route del 127.0.0.0/8
      ip route add local 127.0.0.0/8 dev lo table local
      ip route add local 127.0.0.1 dev lo table local`);
  });

  test("a container whose port is published on 127.0.0.1 does not reach the host's own services there", async () => {
    const service = lab.host.spawn([...talk, 'serve', '4444', 'service']);
    assert.ok(await lab.eventually(() => answers([], 'tcp', '127.0.0.1', 4444)));
    const enter = await inside('local');
    const hop = (await lab.host.run([...enter, 'ip', 'route', 'show', 'default'])).split(' ')[2];
    await lab.host.run([
      ...enter,
      'sh',
      '-ec',
      `ip route del local 127.0.0.0/8 dev lo table local
       ip route del local 127.0.0.1 dev lo table local
       ip route add 127.0.0.0/8 via ${hop} dev eth0 src ${await lab.address('local', 'web')}`,
    ]);
    assert.equal(await answers(enter, 'tcp', '127.0.0.1', 4444), false);
    assert.ok((await lab.dropped('local', /loopback address of the host/)) > 0);
    assert.ok(await answers(enter, 'tcp', hostAddress, 4444), 'the service answers elsewhere');
    await service.end('SIGKILL');
    await lab.docker('rm', '-f', 'local');
  });

  test("a port that is taken is refused in Docker's words, to calico and to bridge containers", async () => {
    const words = /Bind for 0\.0\.0\.0:8080 failed: port is already allocated/;
    const run = ['run', '--rm', '-p', '8080:80'];
    assert.match(await lab.refused(...run, '--net', 'web', 'calico-test', 'true'), words);
    assert.match(await lab.refused(...run, 'calico-test', 'true'), /8080/);
    const holder = lab.host.spawn([...talk, 'listen', 'tcp', '0.0.0.0', '8081']);
    assert.ok(await lab.eventually(async () => holder.output() === 'ready'));
    const other = ['run', '--rm', '--net', 'web', '-p', '8081:80', 'calico-test', 'true'];
    assert.match(await lab.refused(...other), /Bind for 0\.0\.0\.0:8081 failed: port is already/);
    await holder.end('SIGKILL');
    await lab.docker(...other);
    // Free again at once, for a bridge container and back.
    await lab.docker('run', '--rm', '-p', '8081:80', 'calico-test', 'true');
    await lab.docker(...other);
    assert.ok(await answers(router, 'tcp', hostAddress, 8080), 'the first one is as it was');
  });

  test('a start that fails for one port leaves none of the others', async () => {
    const ports = ['-p', '8082:80', '-p', '8083:80', '-p', '8080:80'];
    await lab.refused('run', '--rm', '--net', 'web', ...ports, 'calico-test', 'true');
    const held = await lab.host.run(['ss', '-Hlnt']);
    assert.ok(!/:808[23]\b/.test(held), held);
    assert.ok(!(await lab.calico('ports')).includes(':8082'));
    const elsewhere = ['run', '--rm', '--net', 'web', '-p', '192.0.2.1:8084:80'];
    assert.match(
      await lab.refused(...elsewhere, 'calico-test', 'true'),
      /Bind for 192\.0\.2\.1:8084 failed: address not found on this host/,
    );
    const sctp = ['run', '--rm', '--net', 'web', '-p', '8084:80/sctp', 'calico-test', 'true'];
    const { status, stderr } = await lab.host.exec(['docker', ...sctp]);
    if (status !== 0) assert.match(stderr, /kernel without SCTP/);
  });

  test('ranges give the first free port, and all of them end', async () => {
    const names = ['one', 'two'];
    for (const name of names) await lab.client(name, '--net', 'web', '-p', '7000-7001:80');
    assert.match(await lab.calico('ports', 'one'), /^80\/tcp -> 0\.0\.0\.0:7000$/m);
    assert.match(await lab.calico('ports', 'two'), /^80\/tcp -> 0\.0\.0\.0:7001$/m);
    const third = ['run', '--rm', '--net', 'web', '-p', '7000-7001:80', 'calico-test', 'true'];
    assert.match(await lab.refused(...third), /all ports are allocated/);
    await lab.docker('rm', '-f', 'one');
    await lab.docker(...third);
    await lab.docker('rm', '-f', 'two');
  });

  test('calico-cnm ports prints what docker port prints of a bridge container', async () => {
    await lab.docker('network', 'create', '--ipv6', '--subnet', 'fd00:6::/64', 'six');
    const options = ['-p', '6080:80', '-p', '127.0.0.1:6081:81/udp', '-p', '[::1]:6082:82'];
    await lab.client('bridged', '--net', 'six', ...options);
    // Docker 20.10 writes IPv6 addresses without brackets.
    const expected = (await lab.docker('port', 'bridged'))
      .trim()
      .split('\n')
      .map((line) => line.replace(/ ([0-9a-f:]*:[0-9a-f:]*):(\d+)$/, ' [$1]:$2'))
      .toSorted();
    await lab.docker('rm', '-f', 'bridged');
    await lab.client('routed', '--net', 'web', ...options);
    const printed = (await lab.calico('ports', 'routed')).trim().split('\n').toSorted();
    assert.deepEqual(printed, expected);
    assert.equal((await lab.docker('port', 'routed')).trim(), '', 'Docker knows none of them');
    await lab.docker('rm', '-f', 'routed');
    await lab.docker('network', 'rm', 'six');
    const unknown = await lab.calicoResult('ports', 'nobody');
    assert.match(unknown.stderr, /nobody: no running container with this name/);
  });

  test('-P publishes what the container exposes on ports that the kernel chooses', async () => {
    await published('chosen', '--net', 'web', '-P', '--expose', '80');
    const printed = await lab.calico('ports', 'chosen');
    const port = Number(/^80\/tcp -> 0\.0\.0\.0:(\d+)$/m.exec(printed)?.[1]);
    assert.ok(printed.includes(`80/tcp -> [::]:${port}`), printed);
    assert.equal(await ask(router, 'tcp', hostAddress, port), `chosen ${routerAddress}`);
    assert.equal(await ask(router, 'tcp', hostV6, port), `chosen ${routerV6}`);
    await lab.docker('rm', '-f', 'chosen');
  });

  test('ports go with the default route to another network, and come back', async () => {
    await published('mover', '--net', 'plain', '-p', '8100:80');
    await lab.docker('network', 'create', 'a-bridge');
    await lab.docker('network', 'connect', 'a-bridge', 'mover');
    assert.equal(await lab.calico('ports', 'mover'), '');
    assert.ok(await lab.eventually(() => answers(router, 'tcp', hostAddress, 8100)), 'by bridge');
    await lab.docker('network', 'disconnect', 'a-bridge', 'mover');
    assert.equal(await lab.calico('ports', 'mover'), '80/tcp -> 0.0.0.0:8100');
    assert.equal(await ask(router, 'tcp', hostAddress, 8100), `mover ${routerAddress}`);
    await lab.docker('rm', '-f', 'mover');
    await lab.docker('network', 'rm', 'a-bridge');
  });

  test('an internal network publishes nothing', async () => {
    await lab.network('inner', '--internal');
    await published('hidden', '--net', 'inner', '-p', '6080:80');
    assert.equal(await lab.calico('ports', 'hidden'), '');
    assert.equal(await answers(router, 'tcp', hostAddress, 6080), false);
    await lab.docker('rm', '-f', 'hidden');
    await published('shown', '--net', 'web', '-p', '6080:80');
    assert.ok(await answers(router, 'tcp', hostAddress, 6080));
    await lab.docker('rm', '-f', 'shown');
  });

  test('a UDP client that goes on is answered by whoever has the port now', async () => {
    const client: BackgroundProcess = lab.host.spawn([
      ...router,
      ...talk,
      'go-on',
      hostAddress,
      '5353',
    ]);
    const hears = (name: string) =>
      lab.eventually(
        async () => client.output().trim().split('\n').at(-1)?.startsWith(name) === true,
      );
    await published('first', '--net', 'web', '-p', '5353:80/udp');
    assert.ok(await hears('first '), 'a flow that was there before the port was published');
    await lab.docker('rm', '-f', 'first');
    await published('second', '--net', 'web', '-p', '5353:80/udp');
    assert.ok(await hears('second '));
    await client.end('SIGKILL');
    await lab.docker('rm', '-f', 'second');
  });

  test('many ports cost one transaction of each family, as one does', async () => {
    const transactions = async () => {
      const metrics = await lab.host.run([
        'sh',
        '-c',
        `exec ${talk[0]} -e '
          require("http").get({ socketPath: "/run/calico/calico-cnm.sock", path: "/metrics" },
            (answer) => answer.pipe(process.stdout))'`,
      ]);
      return Number(/^calico_table_transactions_total (\d+)$/m.exec(metrics)?.[1]);
    };
    const cost = async (ports: string): Promise<number> => {
      const before = await transactions();
      await lab.client('many', '--net', 'web', '-p', ports);
      const now = await transactions();
      await lab.docker('rm', '-f', 'many');
      return now - before;
    };
    // What else is going on, as chains that go when nobody has used them for a minute, adds to some of them.
    const least = async (ports: string) =>
      Math.min(await cost(ports), await cost(ports), await cost(ports));
    assert.equal(await least('20000:80'), 2);
    assert.equal(await least('20000-20205:20000-20205'), 2);
  });

  test('a daemon that was killed holds the ports again, and says which it cannot', async () => {
    await lab.host.killCalico();
    assert.ok(await answers(router, 'tcp', hostAddress, 8080), 'the kernel goes on by itself');
    const thief = lab.host.spawn([...talk, 'listen', 'udp', '0.0.0.0', '8080']);
    assert.ok(await lab.eventually(async () => thief.output() === 'ready'));
    await lab.host.startCalico(lab.environment);
    const says = async () =>
      (await lab.calicoResult('status')).stdout.includes(
        'FAIL  published port: Bind for 0.0.0.0:8080 failed: port is already allocated',
      );
    assert.ok(await lab.eventually(says));
    assert.match(await lab.refused('run', '--rm', '-p', '8080:80', 'calico-test', 'true'), /8080/);
    await thief.end('SIGKILL');
    assert.ok(await isWell(), (await lab.calicoResult('status')).stdout);
    assert.ok(await answers(router, 'tcp', hostAddress, 8080));
    assert.ok(await answers([], 'tcp', '::1', 8080));
  });

  test('when all is removed nothing is left', async () => {
    await lab.clear();
    const chains = await lab.host.run(['sh', '-c', 'iptables-save; ip6tables-save']);
    assert.ok(!chains.includes('cali-host-ports-'), chains);
    const held = await lab.host.run(['ss', '-Hlntu']);
    assert.ok(!/:8080\b/.test(held), held);
    assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);
  });

  test('after a crash of Docker a container gets its port again', async () => {
    await lab.network('web');
    await published('always', '--net', 'web', '-p', '6090:80', '--restart', 'always');
    await lab.host.killDocker();
    await lab.host.startDocker();
    const runs = async () =>
      (await lab.docker('inspect', '-f', '{{.State.Running}}', 'always')).trim() === 'true';
    assert.ok(await lab.eventually(runs), lab.host.dockerLog().slice(-3000));
    await serve('always');
    assert.ok(await lab.eventually(() => answers(router, 'tcp', hostAddress, 6090)));
  });
}
