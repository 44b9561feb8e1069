/** Protocols whose ports can be published, as Calico writes them, with their numbers. */
export const protocolNumbers = { TCP: 6, UDP: 17, SCTP: 132 } as const;
export type PortProtocol = keyof typeof protocolNumbers;

/** Returns the protocol of a name in any case, or of a number; `undefined` for any other. */
export function portProtocol(protocol: string | number): PortProtocol | undefined {
  switch (String(protocol).toUpperCase()) {
    case 'TCP':
    case '6':
      return 'TCP';
    case 'UDP':
    case '17':
      return 'UDP';
    case 'SCTP':
    case '132':
      return 'SCTP';
    default:
      return undefined;
  }
}
