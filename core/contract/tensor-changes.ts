// What a core tells the edges before it. Pure.
import { z } from 'zod';

/** A tensor is not what it was, or gone. */
export const tensorChangeSchema = z.object({ type: z.literal('TensorChanged'), tenant: z.string(), key: z.string() });
export type TensorChange = z.infer<typeof tensorChangeSchema>;
