"""What choosing by the gate costs against knowing."""
