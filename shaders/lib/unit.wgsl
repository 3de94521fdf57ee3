// What is loaded of a row of weights at once: UNIT_WORDS = 1, 2 or 4 words; 4 where it is not given.
#if UNIT_WORDS == 1
alias Unit = u32;
#else
#if UNIT_WORDS == 2
alias Unit = vec2<u32>;
#else
alias Unit = vec4<u32>;
#endif
#endif
