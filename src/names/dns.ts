import packet from 'dns-packet';
import { addressFromBytes, familyOf, tryParseAddress, type IpAddress } from '../ip/address.ts';

/** DNS messages (RFC 1035, RFC 6891) of this resolver. */

/** A query of one question of class IN. */
export interface Query {
  readonly id: number;
  /** Its name has no final dot, and is in the case of the client. */
  readonly question: packet.Question;
  readonly isRecursionDesired: boolean;
  /** What the client accepts in a datagram, in bytes. */
  readonly maxBytes: number;
  readonly hasExtension: boolean;
}

/** The records of a response; none: the name exists, but has no records of the type. */
export interface NameRecords {
  readonly addresses: readonly IpAddress[];
  /** The name of an address. */
  readonly name?: string;
  /** How long clients may cache them, in seconds. */
  readonly ttl?: number;
}

/** Short, so that names follow containers, and not 0, which some resolvers take for an error. */
const ttlSeconds = 1;
/** RFC 1035, 4.2.1. */
const leastBytes = 512;
/** The length of a message over TCP is a number of two bytes. */
const mostBytes = 0xffff;
/** Larger datagrams are fragmented on most links. */
const mostDatagramBytes = 4096;
/** More records than any client uses. */
const mostRecords = 1024;
/** What this resolver accepts in a datagram; larger than any query. */
const acceptedBytes = 1232;
const standardQuery = 0;
const reverse4 = '.in-addr.arpa';
const reverse6 = '.ip6.arpa';

/** Returns a query; `undefined` for any other message, and for queries that are not answered here. */
export function decodeQuery(bytes: Buffer): Query | undefined {
  // Over TCP there may be thousands of questions, which take milliseconds.
  if (bytes.length > acceptedBytes) return undefined;
  const message = decoded(bytes);
  if (message?.type !== 'query' || opcodeOf(bytes) !== standardQuery) return undefined;
  const { questions = [], additionals = [], id = 0 } = message;
  const [question] = questions;
  if (question === undefined || questions.length !== 1 || question.class !== 'IN') return undefined;
  const extension = additionals.find((one) => one.type === 'OPT');
  const offered = extension?.type === 'OPT' ? extension.udpPayloadSize : leastBytes;
  return {
    id,
    question,
    isRecursionDesired: message.flag_rd,
    maxBytes: Math.min(mostDatagramBytes, Math.max(leastBytes, offered)),
    hasExtension: extension !== undefined,
  };
}

/**
 * Returns the response to a query with as many records as fit: over UDP what the client accepts; it is marked as
 * truncated if there are more.
 */
export function encodeResponse(
  query: Query,
  records: NameRecords,
  transport: 'udp' | 'tcp',
): Buffer {
  const answers = answersOf(query.question, records).slice(0, mostRecords);
  const limit = transport === 'tcp' ? mostBytes : query.maxBytes;
  const whole = encode(query, answers, false);
  if (whole.length <= limit) return whole;
  const perAnswer = (whole.length - encode(query, [], false).length) / answers.length;
  const room = limit - encode(query, [], false).length;
  return encode(query, answers.slice(0, Math.floor(room / perAnswer)), transport === 'udp');
}

/** Returns the address of the name of a PTR query; `undefined` for other names. */
export function reverseAddress(name: string): IpAddress | undefined {
  const lower = name.toLowerCase();
  if (lower.endsWith(reverse4)) {
    const labels = lower.slice(0, -reverse4.length).split('.');
    return labels.length === 4 ? tryParseAddress(labels.toReversed().join('.')) : undefined;
  }
  if (!lower.endsWith(reverse6)) return undefined;
  const digits = lower.slice(0, -reverse6.length).split('.').toReversed().join('');
  if (!/^[0-9a-f]{32}$/.test(digits)) return undefined;
  return addressFromBytes(Buffer.from(digits, 'hex'));
}

function decoded(bytes: Buffer): packet.DecodedPacket | undefined {
  try {
    return packet.decode(bytes);
  } catch {
    return undefined;
  }
}

function opcodeOf(bytes: Buffer): number {
  return (bytes.readUInt8(2) >> 3) & 0xf;
}

function answersOf(question: packet.Question, records: NameRecords): readonly packet.Answer[] {
  const { name } = question;
  // Not all types are in the type of the library.
  const type: string = question.type;
  if (type === 'PTR') {
    return records.name === undefined
      ? []
      : [{ type: 'PTR', name, ttl: ttlSeconds, data: records.name }];
  }
  const { ttl = ttlSeconds } = records;
  return records.addresses.flatMap((address): packet.Answer[] => {
    const family = familyOf(address) === 4 ? 'A' : 'AAAA';
    return type === family || type === 'ANY' ? [{ type: family, name, ttl, data: address }] : [];
  });
}

function encode(query: Query, answers: readonly packet.Answer[], isTruncated: boolean): Buffer {
  const { id, question, isRecursionDesired, hasExtension } = query;
  const flags =
    packet.RECURSION_AVAILABLE |
    (isRecursionDesired ? packet.RECURSION_DESIRED : 0) |
    (isTruncated ? packet.TRUNCATED_RESPONSE : 0);
  return packet.encode({
    type: 'response',
    id,
    flags,
    questions: [question],
    answers: [...answers],
    additionals: hasExtension
      ? [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize: acceptedBytes,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  });
}
