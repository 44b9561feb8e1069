import { z } from 'zod';
import { CalicoError, describe } from '../../errors/error.ts';
import { parseAddress, type IpAddress } from '../../ip/address.ts';
import { portProtocol, type PortProtocol } from '../../ip/port-protocol.ts';
import { firstIssue } from '../../model/issues.ts';

const portMapKey = 'com.docker.network.portmap';

/** A port to publish, as requested by Docker. */
export interface AskedPort {
  readonly protocol: PortProtocol;
  /** The container's port. */
  readonly port: number;
  /** `undefined`: all addresses of the host. */
  readonly hostIp: IpAddress | undefined;
  /** The first free one of this range is used; 0: the kernel chooses. */
  readonly firstHostPort: number;
  readonly lastHostPort: number;
}

const portNumber = z.int().min(0).max(65_535);

const portMap = z.array(
  z.object({
    Proto: z.int(),
    Port: portNumber,
    HostIP: z.string().nullish(),
    HostPort: portNumber.nullish(),
    HostPortEnd: portNumber.nullish(),
  }),
);

/**
 * Parses the port map in the options of ProgramExternalConnectivity; Docker's null is an empty one. Throws
 * `port/bad-map`.
 */
export function parsePortMap(options: Readonly<Record<string, unknown>>): readonly AskedPort[] {
  const parsed = portMap.safeParse(options[portMapKey] ?? []);
  if (!parsed.success) {
    const { field, why } = firstIssue(parsed.error);
    throw new CalicoError('port/bad-map', { why: `${field}: ${why}` });
  }
  return parsed.data.map(({ Proto, Port, HostIP, HostPort, HostPortEnd }) => {
    const protocol = portProtocol(Proto);
    if (protocol === undefined) throw new CalicoError('port/bad-map', { why: `protocol ${Proto}` });
    const firstHostPort = HostPort ?? 0;
    return {
      protocol,
      port: Port,
      hostIp: hostAddress(HostIP ?? ''),
      firstHostPort,
      lastHostPort: Math.max(firstHostPort, HostPortEnd ?? 0),
    };
  });
}

function hostAddress(text: string): IpAddress | undefined {
  try {
    return text === '' ? undefined : parseAddress(text);
  } catch (error) {
    throw new CalicoError('port/bad-map', { why: describe(error) }, { cause: error });
  }
}
