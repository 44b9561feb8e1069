import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { clusterPaths } from '../../src/cluster/cluster-file.ts';
import {
  configurationFile,
  configurationText,
  dataFolder,
  etcdUnit,
  unitText,
} from '../../src/cluster/etcd/configuration.ts';
import { createAuthority } from '../../src/cluster/pki/authority.ts';
import {
  issueOwnCertificates,
  memberCertificates,
} from '../../src/cluster/pki/own-certificates.ts';
import { startSystemdLab, type SystemdLab } from '../lab/systemd.ts';

const paths = clusterPaths({ datastoreFile: '/var/lib/calico/calico.db' });

/** The unit of a member with the real systemd. */
describe('the unit of etcd', { timeout: 600_000 }, () => {
  let lab: SystemdLab;
  before(async () => {
    lab = await startSystemdLab();
  });
  after(() => lab?.[Symbol.asyncDispose]());

  const write = (file: string, input: string) =>
    lab.host.run(['sh', '-c', 'umask 077; cat >"$0"', file], { input });
  /** The files of a member, written as on the host. */
  const writeFiles = async () => {
    const inside = Object.fromEntries(
      Object.entries(paths).map(([name, path]: [string, string]) => [name, lab.host.path(path)]),
    );
    const there = { ...paths, ...inside };
    mkdirSync(lab.host.path(dataFolder(paths)), { recursive: true, mode: 0o700 });
    const authority = await createAuthority(new Date());
    await write(paths.ca, authority.certificate);
    await write(paths.caKey, authority.key);
    const certificates = memberCertificates(there, { user: 'node.host-1', names: ['127.0.0.1'] });
    await issueOwnCertificates(authority, certificates, new Date());
    const member = { name: 'host-1', address: '127.0.0.1', cluster: '1', state: 'new' as const };
    const peers = [{ name: 'host-1', peerUrl: 'https://127.0.0.1:2380' }];
    await write(configurationFile(paths), configurationText({ ...member, members: peers }, paths));
    await write(`/etc/systemd/system/${etcdUnit}`, unitText(paths));
    for (const program of ['etcd', 'etcdctl']) {
      copyFileSync(`/usr/bin/${program}`, lab.host.path(`/usr/bin/${program}`));
    }
  };
  const etcdctl = (...argv: readonly string[]) =>
    lab.host.exec(
      [
        'etcdctl',
        '--endpoints=https://127.0.0.1:2379',
        `--cacert=${paths.ca}`,
        `--cert=${paths.adminCert}`,
        `--key=${paths.adminKey}`,
        ...argv,
      ],
      { env: { ETCDCTL_API: '3' } },
    );
  const healthy = async () => {
    const end = Date.now() + 30_000;
    while ((await etcdctl('endpoint', 'health')).status !== 0) {
      const log = () => lab.journal(0, '-u', etcdUnit);
      if (Date.now() > end) assert.fail((await log()).join('\n'));
      await sleep(100);
    }
  };

  test('it serves, comes back after a kill, and cannot read the keys of the cluster', async () => {
    await writeFiles();
    await lab.systemctl('daemon-reload');
    await lab.systemctl('enable', '--now', etcdUnit);
    await healthy();
    const pid = await lab.property(etcdUnit, 'MainPID');
    const inside = (file: string) => lab.host.exec(['cat', `/proc/${pid.trim()}/root${file}`]);
    assert.equal((await inside(paths.ca)).status, 0);
    for (const file of [paths.caKey, paths.adminKey]) {
      assert.equal((await inside(file)).stdout, '', file);
    }
    await lab.systemctl('kill', '-s', 'KILL', etcdUnit);
    await healthy();
    assert.notEqual(await lab.property(etcdUnit, 'MainPID'), pid);
    assert.match(await lab.property(etcdUnit, 'UnitFileState'), /^enabled/);
  });
});
