import type { IpFamily } from '../../ip/address.ts';

/**
 * Classic BPF for `-m bpf --bytecode`: reads parts of a packet that no other match can. The packet begins with its IP
 * header; a load beyond its end is no match. Source: Linux, Documentation/networking/filter.rst.
 */

type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, k: number];

const loadWord = (offset: number): Instruction => [0x20, 0, 0, offset];
const loadByte = (offset: number): Instruction => [0x30, 0, 0, offset];
const loadWordPastHeader = (offset: number): Instruction => [0x40, 0, 0, offset];
/** X is the length of the IPv4 header. */
const headerLengthToX: Instruction = [0xb1, 0, 0, 0];
/** Shifts the accumulator to the right. */
const shiftRight = (bits: number): Instruction => [0x74, 0, 0, bits];
const accumulatorToX: Instruction = [0x07, 0, 0, 0];
const matched: Instruction = [0x06, 0, 0, 1];
const notMatched: Instruction = [0x06, 0, 0, 0];
const icmpHeader = 8;
const icmp6 = 58;
const udp = 17;
const ipv6Header = 40;

/**
 * Matches an ICMP error from the destination of the packet that it quotes: the other end of the flow. An IPv6 packet
 * with extension headers does not match, because the quoted packet is at another offset.
 */
export function fromQuotedDestination(family: IpFamily): string {
  return family === 4 ? text(ofIpv4()) : text(ofIpv6());
}

/**
 * Matches a UDP packet that is a VXLAN packet of a virtual network. An IPv6 packet with extension headers matches
 * whatever it is: its VNI is at another offset, the kernel accepts it as a tunnel packet all the same, and sends none.
 * Source of the format: RFC 7348.
 */
export function ofVni(family: IpFamily, vni: number): string {
  const [udpHeader, toVni, nextHeader] = [8, 4, 6];
  const load: readonly Instruction[] =
    family === 4
      ? [headerLengthToX, loadWordPastHeader(udpHeader + toVni)]
      : [loadByte(nextHeader), [0x15, 0, 3, udp], loadWord(ipv6Header + udpHeader + toVni)];
  // The last byte of the word is reserved.
  return text([...load, shiftRight(8), [0x15, 0, 1, vni], matched, notMatched]);
}

function ofIpv4(): readonly Instruction[] {
  const [source, destination] = [12, 16];
  return [
    headerLengthToX,
    loadWordPastHeader(icmpHeader + destination),
    accumulatorToX,
    loadWord(source),
    jumpUnlessEqualsX(1),
    matched,
    notMatched,
  ];
}

function ofIpv6(): readonly Instruction[] {
  const [nextHeader, source, destination, header] = [6, 8, 24, ipv6Header];
  const words = [0, 4, 8, 12];
  return [
    loadByte(nextHeader),
    [0x15, 0, 4 * words.length + 1, icmp6],
    ...words.flatMap((offset, index): readonly Instruction[] => [
      loadWord(source + offset),
      accumulatorToX,
      loadWord(header + icmpHeader + destination + offset),
      jumpUnlessEqualsX(4 * (words.length - 1 - index) + 1),
    ]),
    matched,
    notMatched,
  ];
}

function jumpUnlessEqualsX(instructions: number): Instruction {
  return [0x1d, 0, instructions, 0];
}

function text(instructions: readonly Instruction[]): string {
  return [instructions.length, ...instructions.map((one) => one.join(' '))].join(',');
}
