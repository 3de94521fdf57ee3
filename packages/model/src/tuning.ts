/** `@shoal/model/tuning`: what `shoal tune` measures, and the tables that it keeps. */
export * from "@shoal/kernels/tuning";
