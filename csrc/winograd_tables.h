/* The matrices of Winograd's F(4, 3) and F(4, 5): four outputs of filters with three and
 * five taps, from six and eight points.
 *
 * Points 0, 1, -1, 1/2, -2 and 0, 1, -1, 1/2, -1/2, 2, -2, each with infinity, by the
 * Cook-Toom construction; rows of B and G are scaled against each other by powers of
 * two so that both stay near 1.  A and B are exact in float32.  Small points lose least:
 * the error is about twice, and for eight points three times, that of adding up the
 * products one by one. */
#ifndef TC_WINOGRAD_TABLES_H
#define TC_WINOGRAD_TABLES_H

static const float winograd_a6[4][6] = {
    {1, 1, 1, 1, 1, 0},
    {0, 1, -1, 0.5f, -2, 0},
    {0, 1, 1, 0.25f, 4, 0},
    {0, 1, -1, 0.125f, -8, 1},
};
static const float winograd_b6[6][6] = {
    {1, -1.5f, -2, 1.5f, 1, 0},
    {0, -0.25f, 0.125f, 0.625f, 0.25f, 0},
    {0, 0.25f, -0.625f, 0.125f, 0.25f, 0},
    {0, -2, -1, 2, 1, 0},
    {0, 0.125f, -0.25f, -0.125f, 0.25f, 0},
    {0, 1, -1.5f, -2, 1.5f, 1},
};
static const float winograd_g6[6][3] = {
    {1, 0, 0},
    {4.0f / 3, 4.0f / 3, 4.0f / 3},
    {-4.0f / 3, 4.0f / 3, -4.0f / 3},
    {-16.0f / 15, -8.0f / 15, -4.0f / 15},
    {4.0f / 15, -8.0f / 15, 16.0f / 15},
    {0, 0, 1},
};

static const float winograd_a8[4][8] = {
    {1, 1, 1, 1, 1, 1, 1, 0},
    {0, 1, -1, 0.5f, -0.5f, 2, -2, 0},
    {0, 1, 1, 0.25f, 0.25f, 4, 4, 0},
    {0, 1, -1, 0.125f, -0.125f, 8, -8, 1},
};
static const float winograd_b8[8][8] = {
    {-1, 0, 5.25f, 0, -5.25f, 0, 1, 0},
    {0, 0.25f, 0.25f, -1.0625f, -1.0625f, 0.25f, 0.25f, 0},
    {0, -0.25f, 0.25f, 1.0625f, -1.0625f, -0.25f, 0.25f, 0},
    {0, 2, 4, -2.5f, -5, 0.5f, 1, 0},
    {0, -2, 4, 2.5f, -5, -0.5f, 1, 0},
    {0, 0.125f, 0.0625f, -0.625f, -0.3125f, 0.5f, 0.25f, 0},
    {0, -0.125f, 0.0625f, 0.625f, -0.3125f, -0.5f, 0.25f, 0},
    {0, -1, 0, 5.25f, 0, -5.25f, 0, 1},
};
static const float winograd_g8[8][5] = {
    {-1, 0, 0, 0, 0},
    {-8.0f / 9, -8.0f / 9, -8.0f / 9, -8.0f / 9, -8.0f / 9},
    {-8.0f / 9, 8.0f / 9, -8.0f / 9, 8.0f / 9, -8.0f / 9},
    {32.0f / 45, 16.0f / 45, 8.0f / 45, 4.0f / 45, 2.0f / 45},
    {32.0f / 45, -16.0f / 45, 8.0f / 45, -4.0f / 45, 2.0f / 45},
    {2.0f / 45, 4.0f / 45, 8.0f / 45, 16.0f / 45, 32.0f / 45},
    {2.0f / 45, -4.0f / 45, 8.0f / 45, -16.0f / 45, 32.0f / 45},
    {0, 0, 0, 0, 1},
};

#endif
