import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { builtProgram } from '../lab/built.ts';
import { makeAuthority, type Authority } from '../lab/certificates.ts';
import { startEtcd, type CertificateFiles, type Etcd } from '../lab/etcd.ts';
import { runCommand } from '../lab/process.ts';

describe('etcd with TLS, a client certificate and users', () => {
  let folder: string;
  let program: string;
  let other: Authority;
  let server: CertificateFiles;
  let client: CertificateFiles;
  let foreign: CertificateFiles;
  let etcd: Etcd;

  before(async () => {
    program = `${await builtProgram()}/main.js`;
    folder = mkdtempSync(join(tmpdir(), 'calico-tls-'));
    const authority = await makeAuthority(folder, 'ours');
    other = await makeAuthority(folder, 'other');
    [server, client] = [await authority.issue('server'), await authority.issue('client')];
    foreign = await other.issue('client');
    etcd = await startEtcd({ tls: server });
    etcd.etcdctl('put', '/calico/resources/v3/projectcalico.org/ippools/tls', pool);
  });
  after(async () => {
    await etcd?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const getPools = (env: Readonly<Record<string, string>>) =>
    runCommand([process.execPath, program, 'get', 'ippool'], {
      env: { ETCD_ENDPOINTS: etcd.endpoint, ...env },
    });
  const certificates = ({ ca, cert, key }: CertificateFiles) => ({
    ETCD_CA_CERT_FILE: ca,
    ETCD_CERT_FILE: cert,
    ETCD_KEY_FILE: key,
  });

  /** The command answers one line, and that says this. */
  const refused = async (env: Readonly<Record<string, string>>, sentence: string) => {
    const { status, stdout, stderr } = await getPools(env);
    assert.deepEqual(
      { status, stdout, stderr },
      { status: 1, stdout: '', stderr: `calico-cnm: ${sentence}\n` },
    );
  };
  const accepted = async (env: Readonly<Record<string, string>>) => {
    const { status, stdout, stderr } = await getPools(env);
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
    assert.match(stdout, /^tls +10\.77\.0\.0\/16/m);
  };

  test('the right certificates are accepted', () => accepted(certificates(client)));

  test('an etcd whose certificate another authority signed is not trusted', () =>
    refused(
      { ...certificates(client), ETCD_CA_CERT_FILE: other.ca },
      `cannot connect to datastore ${etcd.endpoint}: server certificate not signed by a trusted CA; check ETCD_CA_CERT_FILE`,
    ));

  test('an etcd that asks for a client certificate and gets none, or a foreign one, is named', async () => {
    const sentence = `cannot connect to datastore ${etcd.endpoint}: client certificate rejected; check ETCD_CERT_FILE and ETCD_KEY_FILE`;
    await refused({ ETCD_CA_CERT_FILE: client.ca }, sentence);
    await refused({ ...certificates(foreign), ETCD_CA_CERT_FILE: client.ca }, sentence);
  });

  test('a file that is missing, is no certificate, or is the key of another one is named', async () => {
    const missing = join(folder, 'missing.pem');
    await refused(
      { ...certificates(client), ETCD_CA_CERT_FILE: missing },
      `cannot use file ${missing} for etcd: ENOENT: no such file or directory, open '${missing}'`,
    );
    const text = join(folder, 'text.pem');
    writeFileSync(text, 'no certificate');
    await refused(
      { ...certificates(client), ETCD_CERT_FILE: text },
      `cannot use file ${text} for etcd: not a certificate`,
    );
    await refused(
      { ...certificates(client), ETCD_KEY_FILE: foreign.key },
      `cannot use file ${foreign.key} for etcd: not the key of ${client.cert}`,
    );
  });

  test('with users, the right password is accepted, a wrong one or none is refused', async () => {
    etcd.etcdctl('user', 'add', 'root:secret');
    etcd.etcdctl('user', 'grant-role', 'root', 'root');
    etcd.etcdctl('auth', 'enable');
    const user = { ...certificates(client), ETCD_USERNAME: 'root' };
    await accepted({ ...user, ETCD_PASSWORD: 'secret' });
    await refused(
      { ...user, ETCD_PASSWORD: 'wrong' },
      `cannot connect to datastore ${etcd.endpoint}: user or password rejected; check ETCD_USERNAME and ETCD_PASSWORD`,
    );
    await refused(
      certificates(client),
      `cannot connect to datastore ${etcd.endpoint}: permission denied on /calico/; check the role of ETCD_USERNAME`,
    );
  });
});

const pool = JSON.stringify({
  kind: 'IPPool',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'tls' },
  spec: { cidr: '10.77.0.0/16' },
});
