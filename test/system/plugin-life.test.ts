import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeAuthority } from '../lab/certificates.ts';
import { startEtcd, type Etcd } from '../lab/etcd.ts';
import { startHost } from '../lab/host.ts';
import { unlessLong } from '../lab/long.ts';
import { ManagedPluginLab } from '../lab/managed-plugin.ts';
import { startRegistry, type Registry } from '../lab/registry.ts';
import { words } from '../lab/words.ts';

const tls = '/etc/calico/tls';
const skip = unlessLong('Docker waits 13 s for it');

/** From a registry and back, with an etcd that hosts share, and a Docker without --live-restore. */
describe('the managed plugin by way of a registry', { timeout: 600_000 }, () => {
  let lab: ManagedPluginLab;
  let registry: Registry;
  let etcd: Etcd;
  const [first, second] = ['127.0.0.1:5000/calico-cnm:1', '127.0.0.1:5000/calico-cnm:2'];

  before(async () => {
    const host = await startHost({ engine: '28.5', uplink: true });
    lab = new ManagedPluginLab(host);
    registry = await startRegistry(host.machine);
    await host.run(words`mkdir -p ${tls}`);
    const authority = await makeAuthority(host.path(tls), 'ours');
    await authority.issue('client');
    etcd = await startEtcd({
      enter: host.machine.enterNetwork,
      port: 2379,
      tls: await authority.issue('server'),
    });
    await lab.start();
  });
  after(async () => {
    await lab[Symbol.asyncDispose]();
    await etcd[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
  });

  /** Of a plugin, by its own command line: one line that begins so. */
  const shows = async (line: RegExp, ...argv: readonly string[]) => {
    const { stdout, stderr } = await lab.calicoResult(...argv);
    assert.match(stdout, line, stderr);
  };

  test('two versions are pushed', async () => {
    for (const reference of [first, second]) {
      await lab.create(`v${reference.slice(-1)}`, reference);
      await lab.docker(...words`plugin push ${reference}`);
      await lab.docker(...words`plugin rm ${reference}`);
    }
  });

  test(
    'installed with a certificate that is not there it is not enabled, and one line of the log says so',
    { skip },
    async () => {
      await lab.refused(
        ...words`plugin install --grant-all-permissions ${first} ETCD_ENDPOINTS=${etcd.endpoint}
        ETCD_CA_CERT_FILE=${tls}/nothing.pem`,
      );
      assert.match(
        lab.host.dockerLog(),
        /level=error msg="calico-cnm: [^\n]*\/etc\/calico\/tls\/nothing\.pem[^\n]*" plugin=/,
      );
      await lab.docker(...words`plugin rm ${first}`);
    },
  );

  test('each of its settings has its effect', async () => {
    await lab.docker(...words`plugin install --disable --grant-all-permissions ${first}`);
    for (const setting of [
      `ETCD_ENDPOINTS=${etcd.endpoint}`,
      `ETCD_CA_CERT_FILE=${tls}/ours.pem`,
      `ETCD_CERT_FILE=${tls}/ours-client.pem`,
      `ETCD_KEY_FILE=${tls}/ours-client.key`,
      'NODENAME=other-name',
      'CALICO_IPV4POOL_CIDR=10.99.0.0/16',
      'CALICO_LOG_LEVEL=debug',
      'CALICO_MTU=1333',
    ]) {
      await lab.docker(...words`plugin set ${first} ${setting}`);
    }
    await lab.docker(...words`plugin enable ${first}`);
    await lab.isWellAgain();
    await shows(/^calico-cnm v1 on other-name, up since/, 'status');
    await shows(/datastore: https:\/\/127\.0\.0\.1:2379, in sync/, 'status');
    await shows(/^\S+ +10\.99\.0\.0\/16 /m, 'get', 'ippool');
    assert.match(etcd.etcdctl('get', '--prefix', '/calico/', '--keys-only'), /nodes\/other-name/);
    assert.match(lab.host.dockerLog(), /Z debug call succeeded method=/);
    await lab.docker(...words`network create -d calico --ipam-driver calico-ipam plain`);
    await lab.docker(...words`network create -d ${first} --ipam-driver ${first} own`);
    for (const network of ['plain', 'own']) {
      // Docker without --live-restore stops them when it is back; they do not heed SIGTERM.
      const common = words`--net ${network} --stop-timeout 1`;
      await lab.server(`${network}app`, ...common, '--restart', 'always');
      await lab.client(`${network}client`, ...common);
      assert.match(await lab.address(`${network}app`, network), /^10\.99\./);
    }
    const mtu = await lab.docker(...words`exec plainapp cat /sys/class/net/eth0/mtu`);
    assert.equal(mtu, '1333');
  });

  test('settings cannot be changed while it is enabled', async () => {
    assert.match(
      await lab.refused(...words`plugin set ${first} CALICO_MTU=1400`),
      /enabled|disable/i,
    );
  });

  test('upgraded it keeps its settings, and no packet is lost', async () => {
    const upgrade = async () => {
      await lab.docker(...words`plugin disable -f ${first}`);
      await lab.docker(
        ...words`plugin upgrade --grant-all-permissions --skip-remote-check ${first} ${second}`,
      );
      await lab.docker(...words`plugin enable ${first}`);
      await lab.isWellAgain();
    };
    await lab.losesNothing('plain', () => lab.losesNothing('own', upgrade));
    await shows(/^calico-cnm v2 on other-name, up since/, 'status');
    for (const network of ['plain', 'own']) await reachesFromAnother(network);
  });

  test('dockerd is killed without --live-restore: nothing is lost until it is back, then all start again', async () => {
    await lab.losesNothing('plain', async () => {
      await lab.host.killDocker();
      await sleep(1000);
    });
    await lab.start();
    await lab.isWellAgain();
    for (const network of ['plain', 'own']) {
      const runs = async () =>
        (await lab.docker(...words`inspect -f {{.State.Running}} ${network}app`)) === 'true';
      assert.ok(await lab.eventually(runs));
      await reachesFromAnother(network);
    }
  });

  test('it is removed, and nothing of it is left', async () => {
    await lab.clear();
    await shows(/^no problems found$/m, 'ipam', 'check');
    await lab.docker(...words`plugin disable ${first}`);
    await lab.docker(...words`plugin rm ${first}`);
    assert.equal(await lab.docker(...words`plugin ls -q`), '');
  });

  /** A new container reaches the server, is policed, and its address is given back. */
  async function reachesFromAnother(network: string): Promise<void> {
    const fetch = `timeout 5 wget -qO- ${network}app:8080`;
    const ask = async () =>
      (await lab.docker(...words`run --rm --net ${network} calico-test sh -c`, fetch)) === 'hello';
    assert.ok(await lab.eventually(ask), await lab.whatIsWrong());
    const isClean = async () =>
      /^no problems found$/m.test((await lab.calicoResult('ipam', 'check')).stdout);
    assert.ok(await lab.eventually(isClean), 'no address leaks');
  }
});
