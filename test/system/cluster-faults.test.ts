import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { clusterPaths, type ClusterPaths } from '../../src/cluster/cluster-file.ts';
import {
  issueOwnCertificates,
  memberCertificates,
} from '../../src/cluster/pki/own-certificates.ts';
import { readCertificate } from '../../src/cluster/pki/certificate.ts';
import { etcdUserOf } from '../../src/cluster/roles.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { OwnCluster } from '../lab/cluster/own-cluster.ts';
import { reachability } from '../lab/cluster/reachability.ts';
import { unlessLong } from '../lab/long.ts';
import { otherClock } from '../lab/other-clock.ts';

const dayMs = 86_400_000;
const unit = 'calico-cnm-etcd.service';

/** Faults of members, one after the other, while containers send 100 packets a second and lose none. */
describe('faults of members', { skip: unlessLong(), timeout: 1_200_000 }, () => {
  let cluster: OwnCluster;
  before(async () => {
    cluster = await OwnCluster.ofThreeMembers(4);
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  /** Runs while the containers of these hosts talk, and lets each host allocate afterwards. */
  const among = async (hosts: readonly ClusterHost[], happens: () => Promise<void>) => {
    await cluster.undisturbed(hosts, {}, async () => {
      await happens();
      await cluster.allocate(...hosts);
      for (const host of hosts) await cluster.well(host);
    });
  };
  const three = () => [cluster.host(1), cluster.host(2), cluster.host(3)] as const;
  const inside = clusterPaths({ datastoreFile: '/var/lib/calico/calico.db' });
  /** The paths of a host's files, as the tests reach them. */
  const pathsOf = ({ host }: ClusterHost): ClusterPaths => {
    const of = (name: keyof ClusterPaths) => host.path(inside[name]);
    return {
      folder: of('folder'),
      file: of('file'),
      ca: of('ca'),
      caKey: of('caKey'),
      nodeCert: of('nodeCert'),
      nodeKey: of('nodeKey'),
      adminCert: of('adminCert'),
      adminKey: of('adminKey'),
      etcd: of('etcd'),
      serverCert: of('serverCert'),
      serverKey: of('serverKey'),
      peerCert: of('peerCert'),
      peerKey: of('peerKey'),
    };
  };
  /** Issues the certificates of a member anew, as if that had been so many days ago. */
  const issueInThePast = async (host: ClusterHost, days: number) => {
    const paths = pathsOf(host);
    const read = (file: string) => readFileSync(file, 'utf8');
    const authority = { certificate: read(paths.ca), key: read(paths.caKey) };
    const names = [...host.addresses, host.name];
    for (const wanted of memberCertificates(paths, { user: etcdUserOf(host.name), names })) {
      // Otherwise the present one is kept.
      writeFileSync(wanted.certFile, '');
      await issueOwnCertificates(authority, [wanted], new Date(Date.now() - days * dayMs));
    }
  };
  const daysOf = (file: string) =>
    (readCertificate(readFileSync(file, 'utf8')).notAfter.getTime() - Date.now()) / dayMs;
  const eventually = async (isSo: () => boolean, what: string) => {
    for (const end = Date.now() + 120_000; !isSo(); await sleep(200))
      assert.ok(Date.now() < end, what);
  };

  /** Removes a host, as soon as its report has expired. */
  const removeWhenSilent = async (on: ClusterHost, lost: string) => {
    for (const end = Date.now() + 150_000; ; await sleep(1000)) {
      const { status, stderr } = await on.tryCalico('cluster', 'remove', lost);
      if (status === 0) break;
      assert.match(stderr, new RegExp(`host ${lost} runs; run calico-cnm cluster leave there`));
      assert.ok(Date.now() < end, stderr);
    }
  };

  test('the disk of a member is full: status says so, the others go on, and it comes back', () =>
    among(three(), async () => {
      const [first, , third] = three();
      const data = `${inside.etcd}/data`;
      const script = `
        systemctl stop ${unit}
        mv ${data} ${data}.moved
        mkdir ${data}
        mount -t tmpfs -o size=300M tmpfs ${data}
        cp -a ${data}.moved/. ${data}/
        chmod 700 ${data}
        systemctl start ${unit}`;
      await third.host.run(['sh', '-ec', script]);
      await cluster.healthy(first);
      await third.exec(['sh', '-c', `head -c 400M /dev/zero >${data}/full`]);
      // Its log is preallocated; its database grows.
      const fill = `
        for n in 1 2 3 4 5 6; do
          head -c 900000 /dev/urandom | base64 -w0 | head -c 1000000 |
            ETCDCTL_API=3 etcdctl --endpoints=https://${first.place.address}:2379 --cacert=${inside.ca} \\
              --cert=${inside.adminCert} --key=${inside.adminKey} put /filler
        done`;
      await first.host.run(['sh', '-ec', fill]);
      const degraded = await cluster.shows(first, /2 of 3 members respond/);
      assert.match(degraded, /^- .*host-3.*journalctl -u calico-cnm-etcd/m);
      await cluster.allocate(...three());
      await third.host.run(['rm', `${data}/full`]);
      await cluster.healthy(first);
    }));

  test('certificates at their last day are renewed, those that have expired too', () =>
    among(three(), async () => {
      const [first, second, third] = three();
      await issueInThePast(second, 364.5);
      await issueInThePast(third, 366);
      for (const host of [second, third]) {
        const { serverCert, peerCert, adminCert, nodeCert } = pathsOf(host);
        for (const file of [serverCert, peerCert, adminCert, nodeCert]) {
          await eventually(() => daysOf(file) > 300, `${file} is not renewed`);
        }
      }
      await cluster.healthy(first);
    }));

  test('a certificate that cannot be renewed is named, with its last day', () =>
    among(three(), async () => {
      const [, second] = three();
      const paths = pathsOf(second);
      // The other members do not respond on the port of renewals.
      const block = (verb: string) =>
        second.host.run([
          'iptables',
          verb,
          'OUTPUT',
          '-p',
          'tcp',
          '--dport',
          '2381',
          '-j',
          'REJECT',
        ]);
      await block('-I');
      await issueInThePast(second, 364.5);
      const key = readFileSync(paths.caKey, 'utf8');
      writeFileSync(paths.caKey, '');
      const late = await cluster.shows(second, /^- Renew etcd\/server\.crt/m);
      assert.match(late, /^cluster \S+: degraded/);
      assert.match(
        late,
        /^- Renew node\.crt, which expires in 0 days: .*journalctl -u calico-cnm/m,
      );
      await block('-D');
      await eventually(
        () => daysOf(paths.serverCert) > 300,
        'the key of the authority is brought again',
      );
      assert.equal(readFileSync(paths.caKey, 'utf8'), key);
    }));

  test('a member whose clock is a day off goes on, ahead and behind', () =>
    among(three(), async () => {
      const [first, second] = three();
      for (const offset of ['+1d', '-1d']) {
        const clock = await otherClock(second.host.machine, offset);
        await second.host.stopCalico();
        await second.startCalico(clock);
        await cluster.well(second);
        // What it issues now is valid for all others.
        const { serverCert, peerCert } = pathsOf(second);
        for (const file of [serverCert, peerCert]) writeFileSync(file, '');
        await eventually(
          () => readFileSync(serverCert, 'utf8') !== '' && readFileSync(peerCert, 'utf8') !== '',
          'issued',
        );
        await second.host.run(['systemctl', 'restart', unit]);
        await cluster.healthy(first);
        await cluster.allocate(...three());
      }
      await second.host.stopCalico();
      await second.startCalico();
    }));

  test('a host whose clock is a day off does not join, and is told so', async () => {
    const [first] = three();
    const fourth = cluster.host(4);
    await cluster.undisturbed([first, fourth], { across: false }, async () => {
      for (const [offset, sentence] of [
        ['+1d', /clock of this host is 2[34] h \d+ min ahead of that of the cluster; set it/],
        ['-1d', /clock of this host is 2[34] h \d+ min behind that of the cluster; set it/],
      ] as const) {
        const env = await otherClock(fourth.host.machine, offset);
        const line = await cluster.joinLine(first);
        const { status, stderr } = await fourth.host.exec(['calico-cnm', ...line], { env });
        assert.equal(status, 1);
        assert.match(stderr, sentence);
      }
      assert.match(await fourth.calico('status'), /datastore: \/var\/lib\/calico\/calico\.db/);
    });
  });

  test('a member that is lost is removed and replaced by another host', async () => {
    const [first, second, third] = three();
    const fourth = cluster.host(4);
    await cluster.undisturbed([first, second], {}, async () => {
      await cluster.undisturbed([fourth], {}, async () => {
        await third.switchOff();
        await cluster.shows(first, /2 of 3 members respond/);
        await cluster.allocate(first, second);
        await removeWhenSilent(first, 'host-3');
        await cluster.join(fourth, first);
        const status = await cluster.healthy(first);
        assert.doesNotMatch(status, /host-3/);
        assert.match(status, /^host-4 +\S+ +member /m);
      });
      await cluster.allocate(first, second, fourth);
    });
    await among([first, second, fourth], async () => undefined);
  });

  test('a host that has left comes back', async () => {
    const [first, second] = three();
    const fourth = cluster.host(4);
    await cluster.undisturbed([first, second], {}, async () => {
      for (const letter of ['a', 'b']) await fourth.remove(`${letter}-${fourth.name}`);
      await fourth.removeNetwork('web');
      cluster.succeeded(fourth, await fourth.tryCalico('cluster', 'leave'));
      await fourth.host.calicoProcess?.ended();
      await fourth.startCalico();
      await cluster.well(fourth);
      await cluster.shows(first, /1 of 1 members/);
      await cluster.furnish(fourth);
      await cluster.join(fourth, first);
      await cluster.healthy(first);
    });
    await among([first, second, fourth], async () => undefined);
  });

  test('a host that was removed while it was off disturbs nobody when it is back, and joins again', async () => {
    const [first, second] = three();
    const fourth = cluster.host(4);
    await cluster.undisturbed([first, second], {}, async () => {
      await fourth.host.killCalico();
      await fourth.host.run(['systemctl', 'stop', unit]);
      await removeWhenSilent(first, 'host-4');
      await fourth.host.run(['systemctl', 'start', unit]);
      await fourth.startCalico();
      await cluster.shows(first, /: 1 of 1 members/);
      const { stdout } = await fourth.tryCalico('status');
      assert.match(stdout, /run on this host: calico-cnm cluster join/);
      // It still has the credential of a member.
      const removed = /ode host-4 was removed from the cluster; run on .* cluster join .*--force/;
      assert.match((await fourth.tryCalico('cluster', 'status')).stdout, removed);
      assert.match((await fourth.tryCalico('cluster', 'leave')).stderr, removed);
      await cluster.join(fourth, first);
      await cluster.healthy(first);
      await cluster.allocate(first, second);
    });
    // Its networks went with its node.
    await fourth.network('web', { ipv6: false });
    await fourth.run('back', { network: 'web' });
    const [here] = first.containers;
    const back = fourth.containers.find(({ name }) => name === 'back');
    assert.ok(here && back);
    await reachability([here, back], 'all');
  });
});
