import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { gapDuring } from '../lab/gap.ts';
import { startHost } from '../lab/host.ts';
import { checkout } from '../lab/built.ts';
import { NetworkLab } from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

/** docs/firewalls.md, row by row, with the real ufw and firewalld. */

const far = '198.51.100.1';
const hostPort = '203.0.113.2:7777';

async function startFirewallLab(
  startFirewall: (lab: NetworkLab) => Promise<void>,
): Promise<NetworkLab> {
  const host = await startHost({ engine: '20.10', furnished: true, uplink: true });
  const lab = new NetworkLab(host, undefined, {});
  await startFirewall(lab);
  await host.startCalico();
  await host.startDocker();
  await lab.tour();
  await lab.server('bridged');
  await lab.server('published', '--net', 'web', '-p', '8088:8080');
  const server =
    "import socket\ns = socket.create_server(('0.0.0.0', 7777))\nwhile True: s.accept()[0].close()";
  host.spawn(['python3', '-c', server]);
  return lab;
}

function probes(lab: NetworkLab) {
  const app = () => lab.address('app', 'web');
  const bridged = () => lab.address('bridged', 'bridge');
  return {
    app,
    inside: async () => lab.reaches('inside', await app()),
    forbidden: async () => lab.reaches('outside', await app()),
    toFar: () => lab.pings('inside', far),
    toHost: async () => {
      const [address = '', port = ''] = hostPort.split(':');
      const tried = await lab.host.exec(
        words`docker exec inside timeout 2 nc -w 1 ${address} ${port}`,
      );
      return tried.status === 0;
    },
    toBridge: async () => lab.reaches('inside', await bridged()),
    fromBridge: async () => lab.reaches('bridged', await app()),
    /** An outside client at a published port. */
    toPublished: async () => {
      const ask =
        'exec 3<>/dev/tcp/203.0.113.2/8088; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3';
      const from = ['ip', 'netns', 'exec', 'router', 'timeout', '2', 'bash', '-c', ask];
      return (await lab.host.exec(from)).stdout.trim().endsWith('hello');
    },
  };
}

/** Container to host: the firewall opens it, a Profile's rule closes it. */
async function hostRow(lab: NetworkLab, open: () => Promise<unknown>): Promise<void> {
  const { toHost } = probes(lab);
  assert.equal(await toHost(), false);
  await open();
  assert.ok(await lab.eventually(toHost));
  await lab.calico(...words`profile web rule add --at 1 outbound deny tcp to ports 7777`);
  assert.ok(await lab.eventually(async () => !(await toHost())));
  await lab.calico(...words`profile web rule remove outbound deny tcp to ports 7777`);
}

/** Policy is in force again after a change, how soon is printed; what began in between does not go on. */
async function isBackAfter(
  lab: NetworkLab,
  what: string,
  change: () => Promise<unknown>,
): Promise<void> {
  const { app, inside, forbidden, toPublished } = probes(lab);
  const to = await app();
  const gap = await gapDuring(lab, { from: 'outside', to }, change);
  process.stdout.write(
    `# ${what}: ${gap.made} of ${gap.tried} forbidden connections made, over ${gap.lengthMs} ms\n`,
  );
  assert.ok(await lab.eventually(async () => !(await forbidden())), what);
  assert.ok(await inside(), what);
  assert.ok(await lab.eventually(toPublished), what);
  const flows = await lab.host.run([
    'sh',
    '-c',
    `conntrack -L -p tcp --dport 8080 -s ${await lab.address('outside', 'other')} --state ESTABLISHED 2>/dev/null; true`,
  ]);
  assert.equal(flows, '', 'no forbidden connection goes on');
}

async function bridgeRow(lab: NetworkLab): Promise<void> {
  const { toBridge, fromBridge } = probes(lab);
  assert.ok(await toBridge(), 'Docker 20.10 lets in what is routed to a bridge container');
  const words = ['allow', 'tcp', 'from', 'cidr', '172.17.0.0/16', 'to', 'ports', '8080'];
  await lab.onlyAfter({
    probe: fromBridge,
    droppedAt: 'app',
    change: () => lab.calico('profile', 'web', 'rule', 'add', 'inbound', ...words),
  });
  await lab.calico('profile', 'web', 'rule', 'remove', 'inbound', ...words);
}

/** A published port is open, and a Profile's rule sees the client's own address. */
async function publishedRow(lab: NetworkLab): Promise<void> {
  const { toPublished } = probes(lab);
  assert.ok(await lab.eventually(toPublished));
  const words = ['deny', 'tcp', 'from', 'cidr', '203.0.113.1/32'];
  await lab.calico('profile', 'web', 'rule', 'add', '--at', '1', 'inbound', ...words);
  assert.ok(await lab.eventually(async () => !(await toPublished())));
  await lab.onlyAfter({
    probe: toPublished,
    droppedAt: 'published',
    change: () => lab.calico('profile', 'web', 'rule', 'remove', 'inbound', ...words),
  });
}

describe('beside ufw', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  const ufw = (...words: readonly string[]) => lab.host.run(['ufw', ...words]);
  before(async () => {
    lab = await startFirewallLab(async ({ host }) => {
      await host.run(['ufw', '--force', 'enable']);
    });
  });
  after(async () => lab[Symbol.asyncDispose]());

  test('container to container and to the outside: Profiles decide, and ufw route rules', async () => {
    const { app, inside, forbidden, toFar } = probes(lab);
    assert.match(await ufw('status', 'verbose'), /deny \(routed\)/);
    assert.ok(await inside());
    assert.ok(await toFar());
    assert.equal(await forbidden(), false);
    await ufw('route', 'deny', 'proto', 'tcp', 'to', await app(), 'port', '8080');
    assert.ok(await lab.eventually(async () => !(await inside())));
    await ufw('route', 'delete', 'deny', 'proto', 'tcp', 'to', await app(), 'port', '8080');
    assert.ok(await lab.eventually(inside));
  });

  test('the same with the default reject instead of deny', async () => {
    const { inside, forbidden } = probes(lab);
    await ufw('default', 'reject', 'routed');
    assert.ok(await lab.eventually(inside));
    assert.equal(await forbidden(), false);
    await ufw('default', 'deny', 'routed');
  });

  test('container to host: Profiles first, then ufw', async () => {
    await hostRow(lab, () => ufw('allow', '7777/tcp'));
  });

  test('to a bridge container: Docker; from one: the Profile', () => bridgeRow(lab));

  test('a published port: Profiles, and ufw route rules', async () => {
    await publishedRow(lab);
    const { toPublished } = probes(lab);
    const to = ['to', await lab.address('published', 'web'), 'port', '8080'];
    await ufw('route', 'deny', 'proto', 'tcp', ...to);
    assert.ok(await lab.eventually(async () => !(await toPublished())));
    await ufw('route', 'delete', 'deny', 'proto', 'tcp', ...to);
    assert.ok(await lab.eventually(toPublished));
  });

  test('status names it', async () => {
    assert.match(await lab.calico('status'), /ufw is active/);
  });

  test('after ufw disable and enable policy is back', async () => {
    await isBackAfter(lab, 'ufw disable', () => ufw('disable'));
    await isBackAfter(lab, 'ufw enable', () => ufw('--force', 'enable'));
    await ufw('disable');
  });

  test('after nft flush ruleset, and what systemctl restart nftables does, policy is back', async () => {
    await isBackAfter(lab, 'nft flush ruleset', () => lab.host.run(['nft', 'flush', 'ruleset']));
    const restart = 'nft flush ruleset; nft -f /etc/nftables.conf';
    await isBackAfter(lab, 'restart nftables', () => lab.host.run(['sh', '-c', restart]));
  });
});

describe('beside firewalld', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  const firewall = (...words: readonly string[]) => lab.host.run(['firewall-cmd', ...words]);
  before(async () => {
    lab = await startFirewallLab(async (started) => {
      const { host } = started;
      await host.run(['cp', '-r', `${checkout}/plugin/host/etc/firewalld`, '/etc']);
      await host.run(['sh', '-c', 'mkdir -p /run/dbus && dbus-daemon --system --fork --nopidfile']);
      host.spawn(['firewalld', '--nofork']);
      const runs = async () => (await host.exec(['firewall-cmd', '--state'])).status === 0;
      assert.ok(await started.eventually(runs));
    });
  });
  after(async () => lab[Symbol.asyncDispose]());

  test('container to container and to the outside: Profiles decide, and firewalld policies', async () => {
    const { inside, forbidden, toFar } = probes(lab);
    assert.match(await firewall('--get-zone-of-interface=cali+'), /^calico$/);
    assert.ok(await inside());
    assert.ok(await toFar());
    assert.equal(await forbidden(), false);
    const rule = `rule family=ipv4 destination address=${far}/32 drop`;
    await firewall('--policy=calico-from', `--add-rich-rule=${rule}`);
    assert.equal(await toFar(), false);
    await firewall('--policy=calico-from', `--remove-rich-rule=${rule}`);
    assert.ok(await lab.eventually(toFar));
  });

  test('container to host: Profiles first, then the zone calico', async () => {
    await hostRow(lab, () => firewall('--zone=calico', '--add-port=7777/tcp'));
  });

  test('to a bridge container: Docker; from one: the Profile', () => bridgeRow(lab));

  test('a published port: Profiles alone, as firewalld passes what is translated', async () => {
    await publishedRow(lab);
    const { toPublished } = probes(lab);
    const rule = 'rule family=ipv4 source address=203.0.113.1/32 drop';
    await firewall('--policy=calico-to', `--add-rich-rule=${rule}`);
    assert.ok(await toPublished());
    assert.match(await lab.host.run(['nft', 'list', 'ruleset']), /ct status dnat accept/);
    await firewall('--policy=calico-to', `--remove-rich-rule=${rule}`);
  });

  test('status names it, and says so when its zone is missing', async () => {
    assert.match(await lab.calico('status'), /firewalld is active/);
    await lab.host.run(['mv', '/etc/firewalld/zones/calico.xml', '/run/']);
    assert.match((await lab.calicoResult('status')).stdout, /FAIL {2}firewalld: .*calico/);
    await lab.host.run(['mv', '/run/calico.xml', '/etc/firewalld/zones/']);
  });

  test('after firewall-cmd --reload policy is back', async () => {
    await isBackAfter(lab, 'firewall-cmd --reload', () => firewall('--reload'));
  });
});
