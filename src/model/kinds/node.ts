import { z } from 'zod';
import { resource } from '../fields.ts';

/** A Docker host. Its labels are what pools' node selectors look at. */
export const node = resource('Node', z.looseObject({}));

export type Node = z.infer<typeof node>;
