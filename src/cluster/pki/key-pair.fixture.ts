import { createKey, createRequest, issue, type Issue, type KeyPair } from './authority.ts';

/** Creates a key and issues a certificate for it. */
export async function issueKeyPair(authority: KeyPair, wanted: Issue, now: Date): Promise<KeyPair> {
  const key = await createKey();
  const request = await createRequest(key);
  return { key, certificate: await issue(authority, { ...wanted, request }, now) };
}
