import { z } from 'zod';

/**
 * The protocol between a host that joins, or has joined, and a member of the cluster: POST of JSON over TLS. A host that
 * joins presents a token (`Authorization: Bearer <id>.<secret>`), a host of the cluster its certificate.
 */

/** The TCP port of the join server of every member. */
export const joinPort = 2381;

/** Paths of the requests; each has the schema of its body. */
export const paths = {
  /** With a token; the first one is small, so that the others, which are large, are sent only with a valid one. */
  token: '/v1/token',
  check: '/v1/check',
  join: '/v1/join',
  /** With the certificate of a node. */
  moved: '/v1/moved',
  renew: '/v1/renew',
  member: '/v1/member',
  leave: '/v1/leave',
} as const;

/** The identity of a join, chosen by its host: 128 random bits. */
const joinId = z.string().regex(/^[0-9a-f]{32}$/);
const nodeName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$/);
const pem = z.string().min(1).max(20_000);
const url = z.string().regex(/^https:\/\/[^/\s]+$/);

/** The identity of the join, for which the token must be valid, is in this header: it is read before the body. */
export const joinHeader = 'x-calico-join';
export const joinHeaderSchema = joinId;

export const tokenResponse = z.object({ uid: z.string() });

/** What a host is and has. */
export const islandRequest = z.object({
  node: nodeName,
  host: z.object({
    bootId: z.string(),
    networkNamespace: z.string(),
    machineId: z.string(),
    macs: z.array(z.string()),
  }),
  /** Its clock. */
  time: z.iso.datetime(),
  /** Everything in its datastore below `/calico/`. */
  items: z.array(z.object({ key: z.string(), value: z.string() })),
});

export type IslandRequest = z.infer<typeof islandRequest>;

const conflict = z.object({
  about: z.enum(['node', 'pool', 'addresses', 'network', 'clock', 'object']),
  text: z.string(),
});

/** The conflicts, and ranges to which containers can be renumbered. */
const checked = z.object({
  kind: z.literal('checked'),
  uid: z.string(),
  conflicts: z.array(conflict),
  freeRanges: z.array(z.string()),
  /** Hosts of the cluster, this one included, and how many are to be members. */
  hosts: z.number().int(),
  members: z.number().int(),
});

export const checkResponse = checked;
export type CheckResponse = z.infer<typeof checkResponse>;

export const joinRequest = islandRequest.extend({
  /** The address of the host for other hosts. */
  address: z.union([z.ipv4(), z.ipv6()]),
  /** Never a member of etcd (`--client`). */
  isClientOnly: z.boolean(),
  /** A certificate request (PEM). */
  request: pem,
});

export type JoinRequest = z.infer<typeof joinRequest>;

/** What a host needs to use the datastore of the cluster. */
const admitted = z.object({
  kind: z.literal('admitted'),
  uid: z.string(),
  /** The certificate of the authority. */
  ca: pem,
  certificate: pem,
  /** Client URLs of the members. */
  endpoints: z.array(url),
});

/** A host with conflicts is not admitted. */
export const joinResponse = z.discriminatedUnion('kind', [checked, admitted]);
export type JoinResponse = z.infer<typeof joinResponse>;

/** The node that asks; its certificate must be that of this node. */
export const nodeRequest = z.object({ node: nodeName });

export const renewRequest = nodeRequest.extend({ request: pem });
export const renewResponse = z.object({ certificate: pem, ca: pem, endpoints: z.array(url) });

/** The private key of the authority, for a host that is to be a member. */
export const memberResponse = z.object({ ca: pem, caKey: pem });

export const emptyResponse = z.object({});

/** A rejected request: one sentence for the user, and the code of the error. */
export const errorResponse = z.object({ error: z.string(), code: z.string() });
