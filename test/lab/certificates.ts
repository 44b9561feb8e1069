import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { outputOf } from './process.ts';
import type { CertificateFiles } from './etcd.ts';

/** A certificate authority in a folder, created with openssl. */
export interface Authority {
  readonly ca: string;
  readonly key: string;
  /**
   * Creates a certificate for server and client, by default for 127.0.0.1; the name distinguishes its files.
   */
  issue(name: string, addresses?: readonly string[]): Promise<CertificateFiles>;
}

/** Creates a new authority; all its files are in the folder. */
export async function makeAuthority(folder: string, name: string): Promise<Authority> {
  const file = (suffix: string) => join(folder, `${name}${suffix}`);
  const [ca, caKey] = [file('.pem'), file('.key')];
  await openssl('req', '-x509', '-days', '2', ...newKey(caKey), '-subj', `/CN=${name}`, '-out', ca);
  return {
    ca,
    key: caKey,
    issue: async (of, addresses = ['127.0.0.1']) => {
      const [cert, key, request] = [file(`-${of}.pem`), file(`-${of}.key`), file(`-${of}.csr`)];
      const names = addresses.map((address) => `IP:${address}`).join(',');
      const subject = ['-subj', `/CN=${of}`, '-addext', `subjectAltName=${names}`];
      await openssl('req', ...newKey(key), ...subject, '-out', request);
      const signed = ['-in', request, '-out', cert, '-copy_extensions', 'copy', '-days', '2'];
      // A file of serial numbers would be one for certificates that are issued at the same time.
      const serial = `0x${randomBytes(8).toString('hex')}`;
      const signer = ['-CA', ca, '-CAkey', caKey, '-set_serial', serial];
      await openssl('x509', '-req', ...signed, ...signer);
      return { ca, cert, key };
    },
  };
}

function newKey(file: string): readonly string[] {
  return ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', file];
}

async function openssl(...argv: readonly string[]): Promise<void> {
  const { PATH = '' } = process.env;
  await outputOf(['openssl', ...argv], { env: { PATH } });
}
