import type { X509Certificate } from 'node:crypto';
import { request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import type { z } from 'zod';
import { CalicoError, describe, hasErrorCode, isCalicoError } from '../../errors/error.ts';
import { keyFingerprint } from '../pki/certificate.ts';
import { tryParseAddress, familyOf } from '../../ip/address.ts';
import { jsonOrUndefined } from '../../model/json.ts';
import { errorResponse, joinHeader, joinPort } from './protocol.ts';

/** Connections of a host to the join server of a member. */

/** A join server as the user names it. */
export interface JoinServer {
  readonly host: string;
  readonly port: number;
}

/** Parses `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`. Throws `cluster/bad-server`. */
export function parseServer(text: string): JoinServer {
  const [, bracketed, plain, port] =
    /^(?:\[([0-9A-Fa-f:.]+)\]|([^[\]:/\s]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const bare = tryParseAddress(text);
  const host = bare !== undefined && familyOf(bare) === 6 ? bare : (bracketed ?? plain);
  const number = port === undefined ? joinPort : Number(port);
  if (host === undefined || number === 0 || number > 65_535) {
    throw new CalicoError('cluster/bad-server', { text });
  }
  return { host, port: number };
}

export function formatServer({ host, port }: JoinServer): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

const connectMs = 10_000;
const responseMs = 120_000;

/**
 * Returns the certificate (PEM) of the authority with this fingerprint from the chain that a server presents. Nothing
 * but the handshake is sent. Throws `cluster/unreachable`, or `cluster/other-authority` if the chain does not have it.
 */
export async function fetchAuthority(server: JoinServer, fingerprint: string): Promise<string> {
  const leaf = await presentedCertificate(server);
  for (let one: X509Certificate | undefined = leaf; one !== undefined;) {
    // What it signs itself is its own: anybody may copy the key into another certificate.
    if (keyFingerprint(one.publicKey) === fingerprint && one.verify(one.publicKey)) {
      return one.toString();
    }
    one = one.issuerCertificate;
  }
  throw new CalicoError('cluster/other-authority', { server: formatServer(server) });
}

function presentedCertificate(server: JoinServer): Promise<X509Certificate | undefined> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      socket.destroy();
      reject(unreachable(server, error));
    };
    // The fingerprint is what this connection is for; nothing is sent on it.
    const socket = connect({ ...server, ...serverName(server), rejectUnauthorized: false }, () => {
      resolve(socket.getPeerX509Certificate());
      socket.destroy();
    });
    socket.setTimeout(connectMs, () => fail(new Error('no response within 10 s')));
    socket.on('error', fail);
  });
}

/** How a host proves to the server who it is. */
export type Proof =
  | { readonly token: { readonly id: string; readonly secret: string }; readonly join: string }
  /** The certificate of the node, both PEM. */
  | { readonly certificate: string; readonly key: string };

/**
 * Sends a request to a server whose certificate the authority has signed, and returns the response. The name in the
 * certificate is not compared with that of the server: whoever has a server certificate of this authority is a member,
 * by whatever name or address it is reached. Throws `cluster/unreachable`, `cluster/not-trusted`, `cluster/rejected`.
 */
export async function send<Response>(
  server: JoinServer,
  options: {
    readonly authority: string;
    readonly proof: Proof;
    readonly path: string;
    readonly body: unknown;
    readonly response: z.ZodType<Response>;
  },
): Promise<Response> {
  const { authority, proof, path, body, response } = options;
  const { status, text } = await post(server, {
    authority,
    proof,
    path,
    text: JSON.stringify(body),
  });
  const json = jsonOrUndefined(text);
  if (status === 200) {
    const parsed = response.safeParse(json);
    if (parsed.success) return parsed.data;
  }
  const error = errorResponse.safeParse(json);
  // A server that is being closed, because the members have changed.
  if (status === 503 && !error.success) throw unreachable(server, new Error('it restarts'));
  const why = error.success ? error.data.error : `unexpected response with HTTP status ${status}`;
  const code = error.success ? error.data.code : '';
  throw new CalicoError('cluster/rejected', { server: formatServer(server), why, code });
}

/** How long the daemon of a member may be away: it restarts, or its join server does with other members. */
const [awayMs, retryMs] = [15_000, 300];

/** As `send`, for a request that may be repeated to a server that has responded before: again while it is away. */
export async function sendPatiently<Response>(
  server: JoinServer,
  options: Parameters<typeof send<Response>>[1],
): Promise<Response> {
  for (const end = Date.now() + awayMs; ;) {
    try {
      return await send(server, options);
    } catch (error) {
      if (!isAway(error) || Date.now() > end) throw error;
      await sleep(retryMs);
    }
  }
}

/** Reports whether a server, or its datastore, will respond when it has restarted. */
function isAway(error: unknown): boolean {
  if (isCalicoError(error, 'cluster/unreachable')) return true;
  return (
    isCalicoError(error, 'cluster/rejected') &&
    ['datastore/unavailable', 'datastore/outcome-unknown'].includes(error.detail.code)
  );
}

function post(
  server: JoinServer,
  { authority, proof, path, text }: { authority: string; proof: Proof; path: string; text: string },
): Promise<{ readonly status: number; readonly text: string }> {
  const identity =
    'token' in proof
      ? {
          headers: {
            authorization: `Bearer ${proof.token.id}.${proof.token.secret}`,
            [joinHeader]: proof.join,
          },
        }
      : { cert: proof.certificate, key: proof.key };
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) =>
      reject(trustProblem(server, error) ?? unreachable(server, error));
    const sent = httpsRequest(
      {
        ...server,
        ...serverName(server),
        path,
        method: 'POST',
        agent: false,
        ca: authority,
        checkServerIdentity: () => undefined,
        timeout: responseMs,
        ...identity,
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(text),
          ...('headers' in identity ? identity.headers : {}),
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', fail);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            text: Buffer.concat(chunks).toString('utf8'),
          }),
        );
      },
    );
    sent.on('timeout', () => sent.destroy(new Error('no response within 120 s')));
    sent.on('error', fail);
    sent.end(text);
  });
}

/** TLS has names only for DNS names (RFC 6066). */
function serverName({ host }: JoinServer): { readonly servername?: string } {
  return isIP(host) === 0 ? { servername: host } : {};
}

function unreachable(server: JoinServer, cause: unknown): CalicoError {
  const why = hasErrorCode(cause, 'ENOTFOUND', 'EAI_AGAIN')
    ? 'unknown host name'
    : describe(cause) || 'no connection';
  return new CalicoError('cluster/unreachable', { server: formatServer(server), why }, { cause });
}

function trustProblem(server: JoinServer, cause: unknown): CalicoError | undefined {
  const name = formatServer(server);
  if (hasErrorCode(cause, 'CERT_NOT_YET_VALID', 'CERT_HAS_EXPIRED')) {
    const now = new Date().toISOString();
    return new CalicoError('cluster/not-valid-now', { server: name, now }, { cause });
  }
  const isUntrusted = hasErrorCode(
    cause,
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'SELF_SIGNED_CERT_IN_CHAIN',
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'CERT_SIGNATURE_FAILURE',
    'INVALID_PURPOSE',
    'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  );
  return isUntrusted
    ? new CalicoError('cluster/other-authority', { server: name }, { cause })
    : undefined;
}
